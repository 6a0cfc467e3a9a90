/* SPDX-License-Identifier: Apache-2.0 */
/* tests/bpf/packet.c - see packet.h; one thread */
#include "packet.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum layer { L_ETH, L_IP4, L_IP6, L_EXT, L_TCP, L_UDP, L_ICMP, L_OTHER };

struct build {
	uint8_t *b;
	uint32_t len;
	struct {
		enum layer type;
		uint32_t off, next_at; /* where the layer says what follows, 0 = nowhere */
		bool next_fixed, len_fixed;
	} l[32];
	unsigned n;
	bool quoted;
};

static void put16(struct build *k, uint32_t off, unsigned v)
{
	k->b[off] = (uint8_t)(v >> 8);
	k->b[off + 1] = (uint8_t)v;
}

static void die(const char *word)
{
	fprintf(stderr, "packet: don't know '%s'\n", word);
	abort();
}

/* Begin a layer of size bytes; the one before learns its number. */
static uint32_t layer(struct build *k, enum layer type, uint32_t size, unsigned number,
		      uint32_t next_at)
{
	unsigned last = k->n - 1;
	uint32_t off = k->len;

	if (k->n && k->l[last].next_at && !k->l[last].next_fixed) {
		if (k->l[last].type == L_ETH)
			put16(k, k->l[last].next_at, number == 4 ? 0x0800 : number == 41 ? 0x86dd : number);
		else
			k->b[k->l[last].next_at] = (uint8_t)number;
	}
	if (k->len + size > PACKET_MAX || k->n == 32)
		die("too long");
	memset(k->b + off, 0, size);
	k->len += size;
	k->l[k->n].type = type;
	k->l[k->n].off = off;
	k->l[k->n].next_at = next_at ? off + next_at : 0;
	k->l[k->n].next_fixed = k->l[k->n].len_fixed = false;
	k->n++;
	return off;
}

static void add_ip(struct build *k, bool v6)
{
	const char *s = v6 ? "2001:db8::2" : "198.18.0.2", *d = v6 ? "2001:db8::1" : "198.18.0.1";
	uint32_t off = v6 ? layer(k, L_IP6, 40, 41, 6) : layer(k, L_IP4, 20, 4, 9);

	k->b[off] = v6 ? 0x60 : 0x45;
	k->b[off + (v6 ? 7 : 8)] = 64;
	inet_pton(v6 ? AF_INET6 : AF_INET, k->quoted ? d : s, k->b + off + (v6 ? 8 : 12));
	inet_pton(v6 ? AF_INET6 : AF_INET, k->quoted ? s : d, k->b + off + (v6 ? 24 : 16));
}

static void add_ports(struct build *k, enum layer type, uint32_t size, unsigned number)
{
	uint32_t off = layer(k, type, size, number, 0);

	put16(k, off, k->quoted ? 80 : 1234);
	put16(k, off + 2, k->quoted ? 1234 : 80);
	if (type == L_TCP)
		k->b[off + 12] = 0x50;
}

static bool add_layer(struct build *k, const char *w, const char *v)
{
	long n = v ? strtol(v, NULL, 0) : 0;
	uint32_t off;

	if (!strcmp(w, "mc")) {
		k->b[0] = 0x01;
	} else if (!strcmp(w, "vlan") || !strcmp(w, "qinq")) {
		off = layer(k, L_ETH, 4, w[0] == 'v' ? 0x8100 : 0x88a8, 2);
		put16(k, off, (unsigned)n);
	} else if (!strcmp(w, "type")) {
		layer(k, L_OTHER, 0, (unsigned)strtol(v, NULL, 16), 0);
	} else if (!strcmp(w, "arp")) {
		off = layer(k, L_OTHER, 28, 0x0806, 0);
		memcpy(k->b + off, "\0\1\x08\0\6\4\0\1", 8);
		inet_pton(AF_INET, v, k->b + off + 24);
	} else if (!strcmp(w, "ip4") || !strcmp(w, "ip6")) {
		add_ip(k, w[2] == '6');
	} else if (!strcmp(w, "hbh") || !strcmp(w, "dst") || !strcmp(w, "rt") ||
		   !strcmp(w, "fragh") || !strcmp(w, "ah")) {
		layer(k, L_EXT, 8, w[0] == 'h' ? 0 : w[0] == 'd' ? 60 : w[0] == 'r' ? 43 :
		      w[0] == 'f' ? 44 : 51, 0);
		k->l[k->n - 1].next_at = k->l[k->n - 1].off; /* its first byte */
	} else if (!strcmp(w, "tcp")) {
		add_ports(k, L_TCP, 20, 6);
	} else if (!strcmp(w, "udp")) {
		add_ports(k, L_UDP, 8, 17);
	} else if (!strcmp(w, "icmp") || !strcmp(w, "icmp6")) {
		off = layer(k, L_ICMP, 8, w[4] ? 58 : 1, 0);
		k->b[off] = (uint8_t)n;
		k->quoted = true;
	} else if (!strcmp(w, "ns")) {
		off = layer(k, L_ICMP, 24, 58, 0);
		k->b[off] = 135;
		inet_pton(AF_INET6, v, k->b + off + 8);
	} else if (!strcmp(w, "data")) {
		if (k->len + n > PACKET_MAX)
			die(w);
		memset(k->b + k->len, 0xa5, (size_t)n);
		k->len += (uint32_t)n;
	} else {
		return false;
	}
	return true;
}

static bool change_layer(struct build *k, const char *w, const char *v)
{
	unsigned last = k->n - 1;
	enum layer type = k->l[last].type;
	uint32_t off = k->l[last].off;
	long n = strtol(v, NULL, 0);
	uint8_t *p = k->b + off;

	if (!strcmp(w, "s") || !strcmp(w, "d")) {
		bool v6 = type == L_IP6;

		return inet_pton(v6 ? AF_INET6 : AF_INET, v,
				 p + (v6 ? 8 : 12) + (w[0] == 'd' ? (v6 ? 16 : 4) : 0)) == 1;
	}
	if (!strcmp(w, "ver")) {
		p[0] = (uint8_t)(n << 4 | (p[0] & 15));
	} else if (!strcmp(w, "ihl")) {
		p[0] = (uint8_t)((p[0] & 0xf0) | n);
	} else if (!strcmp(w, "opt")) {
		memset(k->b + k->len, 1, (size_t)n);
		k->len += (uint32_t)n;
		p[0] = (uint8_t)(p[0] + n / 4);
	} else if (!strcmp(w, "tot")) {
		put16(k, off + 2, (unsigned)n);
		k->l[last].len_fixed = true;
	} else if (!strcmp(w, "frag")) {
		put16(k, off + 6, (unsigned)strtol(v, NULL, 16));
	} else if (!strcmp(w, "id")) {
		put16(k, off + 4, (unsigned)n);
	} else if (!strcmp(w, "plen") || !strcmp(w, "ulen")) {
		put16(k, off + 4, (unsigned)n);
		k->l[last].len_fixed = true;
	} else if (!strcmp(w, "nh")) {
		k->b[k->l[last].next_at] = (uint8_t)n;
		k->l[last].next_fixed = true;
	} else if (!strcmp(w, "elen")) {
		p[1] = (uint8_t)n;
	} else if (!strcmp(w, "left")) {
		p[3] = (uint8_t)n;
	} else if (!strcmp(w, "sp") || !strcmp(w, "dp")) {
		put16(k, off + (w[0] == 'd' ? 2 : 0), (unsigned)n);
	} else {
		return false;
	}
	return true;
}

static void fix_lengths(struct build *k)
{
	for (unsigned i = 0; i < k->n; i++) {
		uint32_t off = k->l[i].off, rest = k->len - off;

		if (k->l[i].len_fixed)
			continue;
		if (k->l[i].type == L_IP4)
			put16(k, off + 2, rest);
		else if (k->l[i].type == L_IP6)
			put16(k, off + 4, rest - 40);
		else if (k->l[i].type == L_UDP)
			put16(k, off + 4, rest);
	}
}

uint32_t packet_build(const char *words, uint8_t out[PACKET_MAX])
{
	struct build k = { .b = out };
	char copy[512], *save = NULL, *w, *v;
	bool fixed = false;

	if (snprintf(copy, sizeof(copy), "%s", words) >= (int)sizeof(copy))
		die(words);
	layer(&k, L_ETH, 14, 0, 12);
	out[0] = out[6] = 2;
	out[5] = 1;
	out[11] = 2;
	for (w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		v = strchr(w, '=');
		if (v)
			*v++ = 0;
		if (!fixed && (!strcmp(w, "cut") || !strcmp(w, "chop") || !strcmp(w, "pad"))) {
			fix_lengths(&k);
			fixed = true;
		}
		if (!strcmp(w, "cut"))
			k.len = (uint32_t)atoi(v);
		else if (!strcmp(w, "chop"))
			k.len -= (uint32_t)atoi(v);
		else if (!strcmp(w, "pad"))
			k.len += (uint32_t)atoi(v);
		else if (!add_layer(&k, w, v) && (!v || !change_layer(&k, w, v)))
			die(w);
	}
	if (!fixed)
		fix_lengths(&k);
	return k.len;
}
