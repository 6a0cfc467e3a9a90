// SPDX-License-Identifier: Apache-2.0
/* hal_xdp/xdp_super.c - super-frames: up to 64 KB handed to the kernel, which cuts or offloads
 *
 * An AF_PACKET socket beside the XSK, with a virtio-net header before each packet: the kernel
 * treats it like a segment of its own TCP, so the device's TSO applies, or the kernel's
 * segmentation, or (veth) the peer gets it whole. It is bound to no protocol and so never
 * receives. Packets queued on the XSK before are kicked out first.
 *
 * PACKET_QDISC_BYPASS is left alone: that path drops a packet which the device can't segment
 * itself, and what a device can do changes at run time (veth loses TSO when its peer gets a
 * native XDP program).
 */
#define _GNU_SOURCE
#include <hal_xdp/xdp_internal.h>

#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

int xdp_super_open(struct xdp_queue *q)
{
	struct sockaddr_ll sll = {
		.sll_family = AF_PACKET, .sll_ifindex = (int)q->port->hal.ifindex,
	};
	int one = 1, snd = 8 << 20, r;

	q->super_fd = xdp_fd_own(q->port, socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
						 0));
	if (q->super_fd < 0)
		return -errno;
	if (setsockopt(q->super_fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) ||
	    bind(q->super_fd, (struct sockaddr *)&sll, sizeof(sll))) {
		r = -errno;
		xdp_fd_close(q->port, q->super_fd);
		q->super_fd = -1;
		return r;
	}
	if (setsockopt(q->super_fd, SOL_SOCKET, SO_SNDBUFFORCE, &snd, sizeof(snd)))
		setsockopt(q->super_fd, SOL_SOCKET, SO_SNDBUF, &snd, sizeof(snd));
	return 0;
}

static const uint8_t gso_type[] = {
	[HAL_GSO_NONE] = VIRTIO_NET_HDR_GSO_NONE,
	[HAL_GSO_TCPV4] = VIRTIO_NET_HDR_GSO_TCPV4,
	[HAL_GSO_TCPV6] = VIRTIO_NET_HDR_GSO_TCPV6,
	[HAL_GSO_UDP] = VIRTIO_NET_HDR_GSO_UDP_L4,
};

/* Native byte order: AF_PACKET uses the machine's unless told otherwise. */
static int header(struct virtio_net_hdr *h, const struct hal_super *s)
{
	if (s->gso >= sizeof(gso_type) || s->iovcnt < 1 || s->iovcnt > HAL_SUPER_IOV)
		return -EINVAL;
	*h = (struct virtio_net_hdr){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = gso_type[s->gso],
		.hdr_len = s->hdr_len, .gso_size = s->gso == HAL_GSO_NONE ? 0 : s->gso_size,
		.csum_start = s->csum_start, .csum_offset = s->csum_offset,
	};
	return 0;
}

int xdp_tx_super(struct hal_port *hp, uint32_t qi, const struct hal_super *s)
{
	struct xdp_queue *q = &xdp_port_of(hp)->queue[qi];
	struct iovec iov[1 + HAL_SUPER_IOV];
	struct virtio_net_hdr h;
	struct msghdr m = { .msg_iov = iov };
	ssize_t r;
	int i;

	if (q->super_fd < 0)
		return -EOPNOTSUPP;
	if (header(&h, s)) {
		q->st.tx_errors++;
		return -EINVAL;
	}
	if (q->tx_dirty || q->tx_left)
		xdp_queue_kick(q);
	if (q->tx_left)
		return -EAGAIN; /* or it would overtake */
	iov[0] = (struct iovec){ &h, sizeof(h) };
	for (i = 0; i < s->iovcnt; i++)
		iov[1 + i] = s->iov[i];
	m.msg_iovlen = 1 + s->iovcnt;
	q->st.tx_kicks++;
	r = sendmsg(q->super_fd, &m, MSG_DONTWAIT);
	if (r < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	if (r < 0) {
		q->st.tx_errors++;
		return -errno;
	}
	q->st.tx_super_packets++;
	q->st.tx_super_bytes += r - sizeof(h);
	return 0;
}
