/* SPDX-License-Identifier: Apache-2.0 */
/* stacks/lwip/lwip_stack.c - lwIP as a plug-in stack, with addresses and a link address of its own
 *
 * Debian's liblwip in the program's process. The "options" of its entry in the configuration, or the environment
 * variable NSTACK_LWIP, say where it lives:
 *
 *	INTERFACE,ADDRESS/LENGTH[,GATEWAY][,ADDRESS6/LENGTH]
 *
 * Several entries are several stations.
 *
 * It shares the interface as a second station on the same wire: frames pass by an AF_PACKET socket, ARP and
 * neighbour discovery are lwIP's own, and the kernel does not know its addresses. (So, as with macvlan, the
 * kernel of the same machine and it do not hear each other by that interface.) Needs CAP_NET_RAW.
 *
 * The sockets are lwIP's, whose interface is POSIX. It tells nobody when one becomes ready, so a thread
 * polls those that somebody waits for: `armed` says for what. What was reported is not armed any more, until
 * ep_getevt finds it untrue: so nothing is reported twice, and nothing that comes later is missed.
 *
 * Threads: any; lwIP locks its core itself. Ours: frames in, events.
 */
#define _GNU_SOURCE
#include <nstack/nstack_dmm_api.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <lwip/etharp.h>
#include <lwip/ethip6.h>
#include <lwip/sockets.h>
#include <lwip/tcpip.h>
#include <net/if.h>
#include <netinet/if_ether.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ioctl.h>

#define SOCKS 2048      /* more than lwIP has */
#define FRAME_MAX 65549 /* what a sender hands over in one piece, to be cut by its device */
#define HIGH 4096       /* programs take the lowest numbers */

static nstack_event_cb nstack;
static struct netif netif;
static int packet = -1;
static const char *options; /* NULL: the environment says it */

struct place {
	char name[IF_NAMESIZE];
	ip4_addr_t addr, mask, gateway;
	ip6_addr_t addr6;
	bool has6;
};

/* --- where it lives ---------------------------------------------------------------------------- */

static bool read_word(struct place *p, char *word)
{
	char *slash = strchr(word, '/');
	int len = slash ? atoi(slash + 1) : 0;

	if (slash)
		*slash = 0;
	if (slash && ip4addr_aton(word, &p->addr)) {
		p->mask.addr = len > 0 && len <= 32 ? htonl(~0u << (32 - len)) : 0;
		return len > 0 && len <= 32;
	}
	if (slash)
		return p->has6 = ip6addr_aton(word, &p->addr6);
	return ip4addr_aton(word, &p->gateway);
}

static bool read_place(struct place *p)
{
	const char *text = options ? options : getenv("NSTACK_LWIP");
	char copy[256], *save, *word;

	memset(p, 0, sizeof(*p));
	if (!text || strlen(text) >= sizeof(copy))
		return false;
	strcpy(copy, text);
	word = strtok_r(copy, ",", &save);
	if (!word || strlen(word) >= sizeof(p->name))
		return false;
	strcpy(p->name, word);
	while ((word = strtok_r(NULL, ",", &save)))
		if (!read_word(p, word))
			return false;
	return p->addr.addr != 0;
}

/* --- frames --------------------------------------------------------------------------------------- */

/* Like the wire's other end we may be given checksums that a device was to fill in. */
static void finish_checksum(uint8_t *frame, size_t n, const struct virtio_net_hdr *h)
{
	uint32_t sum = 0;
	size_t at = h->csum_start;

	if (!(h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) || at + h->csum_offset + 2u > n)
		return;
	for (size_t i = at; i + 1 < n; i += 2)
		sum += (uint32_t)frame[i] << 8 | frame[i + 1];
	if ((n - at) & 1)
		sum += (uint32_t)frame[n - 1] << 8;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~((sum & 0xffff) + (sum >> 16)) & 0xffff;
	frame[at + h->csum_offset] = (uint8_t)(sum >> 8);
	frame[at + h->csum_offset + 1] = (uint8_t)sum;
}

static void frame_in(uint8_t *frame, size_t n, const struct virtio_net_hdr *h)
{
	struct pbuf *p;

	if (n < ETH_HLEN || (!(frame[0] & 1) && memcmp(frame, netif.hwaddr, ETH_ALEN)))
		return;
	finish_checksum(frame, n, h);
	p = pbuf_alloc(PBUF_RAW, (u16_t)n, PBUF_RAM);
	if (p && (pbuf_take(p, frame, (u16_t)n) != ERR_OK || netif.input(p, &netif) != ERR_OK))
		pbuf_free(p);
}

static void *receive(void *arg)
{
	static uint8_t buf[sizeof(struct virtio_net_hdr) + FRAME_MAX];
	struct virtio_net_hdr h;
	ssize_t n;

	(void)arg;
	pthread_setname_np(pthread_self(), "nstack-lwip-in");
	while ((n = read(packet, buf, sizeof(buf))) >= 0 || errno == EINTR || errno == ENETDOWN) {
		if (n < (ssize_t)sizeof(h))
			continue;
		memcpy(&h, buf, sizeof(h));
		frame_in(buf + sizeof(h), (size_t)n - sizeof(h), &h);
	}
	return NULL;
}

static err_t frame_out(struct netif *n, struct pbuf *p)
{
	uint8_t buf[sizeof(struct virtio_net_hdr) + 2048] = { 0 };

	(void)n;
	if (p->tot_len > sizeof(buf) - sizeof(struct virtio_net_hdr))
		return ERR_BUF;
	pbuf_copy_partial(p, buf + sizeof(struct virtio_net_hdr), p->tot_len, 0);
	/* what the device does not take is lost, as on any wire */
	(void)!write(packet, buf, sizeof(struct virtio_net_hdr) + p->tot_len);
	return ERR_OK;
}

static err_t link_init(struct netif *n)
{
	n->name[0] = 'n';
	n->name[1] = 's';
	n->output = etharp_output;
	n->output_ip6 = ethip6_output;
	n->linkoutput = frame_out;
	n->mtu = 1500;
	n->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_IGMP |
		   NETIF_FLAG_MLD6 | NETIF_FLAG_LINK_UP;
	n->hwaddr_len = ETH_ALEN;
	return ERR_OK;
}

static int high(int fd)
{
	int up = fcntl(fd, F_DUPFD_CLOEXEC, HIGH);

	if (up < 0)
		return fd;
	close(fd);
	return up;
}

static int open_packet(const struct place *p)
{
	struct sockaddr_ll ll = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL),
				  .sll_ifindex = (int)if_nametoindex(p->name) };
	struct packet_mreq mac = { .mr_ifindex = ll.sll_ifindex, .mr_type = PACKET_MR_UNICAST,
				   .mr_alen = ETH_ALEN };
	struct packet_mreq groups = { .mr_ifindex = ll.sll_ifindex, .mr_type = PACKET_MR_ALLMULTI };
	int on = 1;

	if (!ll.sll_ifindex)
		return -1;
	packet = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (packet < 0)
		return -1;
	packet = high(packet);
	memcpy(mac.mr_address, netif.hwaddr, ETH_ALEN);
	setsockopt(packet, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on));
	setsockopt(packet, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &mac, sizeof(mac));
	setsockopt(packet, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &groups, sizeof(groups));
	if (setsockopt(packet, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) < 0)
		return -1;
	return bind(packet, (struct sockaddr *)&ll, sizeof(ll));
}

/* --- events ------------------------------------------------------------------------------------------ */

static struct watched {
	void *pdata;    /* NULL: nobody cares */
	unsigned armed; /* POLLIN, POLLOUT: to be reported */
} watched[SOCKS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int waker = -1; /* a UDP socket of lwIP's that is connected to itself */

static unsigned look(int s, unsigned want)
{
	struct pollfd p = { .fd = s, .events = (short)(want & (POLLIN | POLLOUT)) };

	return lwip_poll(&p, 1, 0) > 0 ? (unsigned)p.revents & (POLLIN | POLLOUT | POLLERR | POLLHUP) : 0;
}

static unsigned arm(int s, unsigned want, void *pdata)
{
	unsigned now = look(s, want), missing = want & ~now & (POLLIN | POLLOUT);
	bool wake = false;

	pthread_mutex_lock(&lock);
	if (pdata)
		watched[s].pdata = pdata;
	if (watched[s].pdata) {
		wake = missing & ~watched[s].armed;
		watched[s].armed |= missing;
	}
	pthread_mutex_unlock(&lock);
	if (wake)
		lwip_send(waker, "", 1, MSG_DONTWAIT);
	return now;
}

static unsigned lwip_ep_ctl(int epfd, int s, int op, struct epoll_event *ev, void *pdata)
{
	(void)epfd;
	if (op != nstack_ep_triggle_del)
		return arm(s, ev->events, pdata);
	pthread_mutex_lock(&lock);
	watched[s] = (struct watched){ NULL, 0 };
	pthread_mutex_unlock(&lock);
	return 0;
}

static unsigned lwip_ep_getevt(int epfd, int s, unsigned events)
{
	(void)epfd;
	return arm(s, events, NULL);
}

static nfds_t collect(struct pollfd *p)
{
	nfds_t n = 1;

	p[0] = (struct pollfd){ .fd = waker, .events = POLLIN };
	pthread_mutex_lock(&lock);
	for (int s = 0; s < SOCKS; s++)
		if (watched[s].pdata && watched[s].armed)
			p[n++] = (struct pollfd){ .fd = s, .events = (short)watched[s].armed };
	pthread_mutex_unlock(&lock);
	return n;
}

static void report(const struct pollfd *p)
{
	unsigned events = (unsigned)p->revents & (POLLIN | POLLOUT | POLLERR | POLLHUP);
	void *pdata;

	pthread_mutex_lock(&lock);
	pdata = events ? watched[p->fd].pdata : NULL;
	watched[p->fd].armed &= events & (POLLERR | POLLHUP) ? 0 : ~events;
	pthread_mutex_unlock(&lock);
	if (pdata)
		nstack.event_cb(pdata, (int)events);
}

static void *report_all(void *arg)
{
	static struct pollfd p[SOCKS + 1];
	char drop[16];
	nfds_t n;

	(void)arg;
	pthread_setname_np(pthread_self(), "nstack-lwip-ev");
	for (;;) {
		n = collect(p);
		if (lwip_poll(p, n, -1) <= 0)
			continue;
		while (p[0].revents && lwip_recv(waker, drop, sizeof(drop), MSG_DONTWAIT) > 0)
			;
		for (nfds_t i = 1; i < n; i++)
			if (p[i].revents)
				report(&p[i]);
	}
	return NULL;
}

/* --- life ------------------------------------------------------------------------------------------------ */

static bool thread(void *(*fn)(void *))
{
	sigset_t all, old;
	pthread_t t;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	err = pthread_create(&t, NULL, fn, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!err)
		pthread_detach(t);
	return !err;
}

static void ready(void *arg)
{
	sys_sem_signal(arg);
}

static void add_interface(const struct place *p)
{
	s8_t at;

	LOCK_TCPIP_CORE();
	netif_add(&netif, &p->addr, &p->mask, &p->gateway, NULL, link_init, tcpip_input);
	netif_set_default(&netif);
	netif_set_up(&netif);
	netif_create_ip6_linklocal_address(&netif, 1);
	if (p->has6 && netif_add_ip6_address(&netif, &p->addr6, &at) == ERR_OK)
		netif_ip6_addr_set_state(&netif, at, IP6_ADDR_PREFERRED);
	UNLOCK_TCPIP_CORE();
}

static int open_waker(const struct place *p)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = p->addr.addr };
	socklen_t len = sizeof(sin);

	waker = lwip_socket(AF_INET, SOCK_DGRAM, 0);
	if (waker < 0 || lwip_bind(waker, (struct sockaddr *)&sin, len) < 0 ||
	    lwip_getsockname(waker, (struct sockaddr *)&sin, &len) < 0)
		return -1;
	return lwip_connect(waker, (struct sockaddr *)&sin, len);
}

static int init(void)
{
	struct place p;
	sys_sem_t sem;

	if (!read_place(&p)) {
		fprintf(stderr, "nstack: options of lwIP (or NSTACK_LWIP) must be INTERFACE,ADDRESS/LENGTH[,GATEWAY][,ADDRESS6/LENGTH]\n");
		return EINVAL;
	}
	/* an address of the kind that is nobody's, from the one that is ours */
	memcpy(netif.hwaddr, "\x02\x6c", 2);
	memcpy(netif.hwaddr + 2, &p.addr.addr, 4);
	if (open_packet(&p) < 0 || sys_sem_new(&sem, 0) != ERR_OK)
		return errno ? errno : ENODEV;
	tcpip_init(ready, &sem);
	sys_arch_sem_wait(&sem, 0);
	sys_sem_free(&sem);
	add_interface(&p);
	if (open_waker(&p) < 0 || !thread(receive) || !thread(report_all))
		return EAGAIN;
	return 0;
}

/* --- calls whose form differs ------------------------------------------------------------------------------ */

static int stack_socket(int domain, int type, int protocol)
{
	int s = lwip_socket(domain, type, protocol);

	if (s >= SOCKS) {
		lwip_close(s);
		errno = EMFILE;
		return -1;
	}
	return s;
}

static int stack_accept(int s, struct sockaddr *addr, socklen_t *len)
{
	int c = lwip_accept(s, addr, len);

	if (c >= SOCKS) {
		lwip_close(c);
		errno = EMFILE;
		return -1;
	}
	return c;
}

static int stack_close(int s)
{
	pthread_mutex_lock(&lock);
	watched[s] = (struct watched){ NULL, 0 };
	pthread_mutex_unlock(&lock);
	return lwip_close(s);
}

static int stack_ioctl(int s, unsigned long req, unsigned long arg)
{
	return lwip_ioctl(s, (long)req, (void *)arg);
}

static int stack_fcntl(int s, int cmd, unsigned long arg)
{
	return lwip_fcntl(s, cmd, (int)arg);
}

void nstack_plugin_configure(const char *name, const char *text);
void nstack_plugin_configure(const char *name, const char *text)
{
	(void)name;
	options = text;
}

int lwip_stack_register(nstack_proc_cb *proc_fun, nstack_event_cb *event_ops);
int lwip_stack_register(nstack_proc_cb *proc_fun, nstack_event_cb *event_ops)
{
	nstack_socket_ops *op = &proc_fun->socket_ops;
	nstack_extern_ops *ext = &proc_fun->extern_ops;

	nstack = *event_ops;
	op->pfsocket = stack_socket;
	op->pfaccept = stack_accept;
	op->pfclose = stack_close;
	op->pfioctl = stack_ioctl;
	op->pffcntl = stack_fcntl;
	op->pfbind = lwip_bind;
	op->pflisten = lwip_listen;
	op->pfshutdown = lwip_shutdown;
	op->pfgetsockname = lwip_getsockname;
	op->pfgetpeername = lwip_getpeername;
	op->pfgetsockopt = lwip_getsockopt;
	op->pfsetsockopt = lwip_setsockopt;
	op->pfconnect = lwip_connect;
	op->pfrecv = lwip_recv;
	op->pfsend = lwip_send;
	op->pfread = lwip_read;
	op->pfwrite = lwip_write;
	op->pfwritev = lwip_writev;
	op->pfreadv = lwip_readv;
	op->pfsendto = lwip_sendto;
	op->pfrecvfrom = lwip_recvfrom;
	op->pfsendmsg = lwip_sendmsg;
	op->pfrecvmsg = lwip_recvmsg;
	ext->module_init = init;
	ext->ep_ctl = lwip_ep_ctl;
	ext->ep_getevt = lwip_ep_getevt;
	return 0;
}
