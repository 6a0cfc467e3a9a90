/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/steer_attach.c - the program on and off an interface
 *
 * Attaching goes through libxdp, whose dispatcher lets several XDP programs share an interface
 * where the kernel allows it. Where it doesn't, libxdp attaches ours alone; then, and whenever
 * a program of somebody else is there that can't be chained, ours gives way. All under the
 * interface's lock file, so loads and unloads queue up; each step leaves a state that the next
 * load or unload understands, so a crash in between needs no repair.
 *
 * Threads: any. Not here: the tables (steer_tables.c).
 */
#define _GNU_SOURCE
#include <bpf/steer_internal.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <bpf/steer.skel.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <nstack/fd_host.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xdp/libxdp.h>

#define LOCK_DIR "/run/nstack"

/* --- lock ---------------------------------------------------------------------------------- */

/* The file of a lock of the interface, not locked, or -errno. */
static int lock_open(const char *of, unsigned ifindex)
{
	char path[96];
	struct stat ns;
	int fd;

	if (stat("/proc/self/ns/net", &ns))
		return -errno;
	if (mkdir(LOCK_DIR, 0755) && errno != EEXIST)
		return -errno;
	/* the file stays: removing it would split those who wait from those who come */
	snprintf(path, sizeof(path), LOCK_DIR "/%s-%lu-%u.lock", of, (unsigned long)ns.st_ino, ifindex);
	fd = nst_fd_own(open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
	return fd < 0 ? -errno : fd;
}

static int lock_take(int fd)
{
	while (flock(fd, LOCK_EX))
		if (errno != EINTR)
			return -errno;
	return 0;
}

static int lock_of(const char *of, unsigned ifindex)
{
	int fd = lock_open(of, ifindex), err = fd < 0 ? fd : lock_take(fd);

	if (err && fd >= 0)
		nst_fd_close(fd);
	return err ? err : fd;
}

int steer_lock(unsigned ifindex)
{
	return lock_of("steer", ifindex);
}

void steer_unlock(int fd)
{
	if (fd < 0)
		return;
	/* closing alone would not let go of the lock while a child that was forked meanwhile has
	 * its copy of the descriptor */
	flock(fd, LOCK_UN);
	nst_fd_close(fd);
}

void steer_lock_keep(struct steer *st)
{
	if (st->lock_file < 0)
		st->lock_file = lock_open("steer", st->ifindex);
}

int steer_tables_lock(struct steer *st)
{
	int lock = steer_lock(st->ifindex);

	if (lock != -EACCES || st->lock_file < 0)
		return lock;
	lock = lock_take(st->lock_file);
	return lock ? lock : st->lock_file;
}

void steer_tables_unlock(struct steer *st, int lock)
{
	if (lock >= 0 && lock == st->lock_file)
		flock(lock, LOCK_UN);
	else
		steer_unlock(lock);
}

/* --- the libraries' chatter ---------------------------------------------------------------- */

/* The libraries print by callback without an argument, so what they last complained about is
 * kept per thread. */
static __thread char last_words[160];

static int keep_words(const char *fmt, va_list ap)
{
	vsnprintf(last_words, sizeof(last_words), fmt, ap);
	last_words[strcspn(last_words, "\n")] = 0;
	return 0;
}

static int quiet_libbpf(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	return level == LIBBPF_WARN ? keep_words(fmt, ap) : 0;
}

static int quiet_libxdp(enum libxdp_print_level level, const char *fmt, va_list ap)
{
	return level == LIBXDP_WARN ? keep_words(fmt, ap) : 0;
}

struct quiet {
	libbpf_print_fn_t libbpf;
	libxdp_print_fn_t libxdp;
};

static void quiet_begin(struct quiet *q)
{
	last_words[0] = 0;
	q->libbpf = libbpf_set_print(quiet_libbpf);
	q->libxdp = libxdp_set_print(quiet_libxdp);
}

/* The process may use the libraries for purposes of its own. */
static void quiet_end(const struct quiet *q)
{
	libbpf_set_print(q->libbpf);
	libxdp_set_print(q->libxdp);
}

/* --- what is attached ---------------------------------------------------------------------- */

static int prog_name(uint32_t id, char name[BPF_OBJ_NAME_LEN])
{
	struct bpf_prog_info info = { 0 };
	__u32 len = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(id), err = 0;

	if (fd < 0)
		return -errno;
	if (bpf_obj_get_info_by_fd(fd, &info, &len))
		err = -errno;
	close(fd);
	if (!err)
		snprintf(name, BPF_OBJ_NAME_LEN, "%s", info.name);
	return err;
}

static void found_prog(struct steer_found *f, uint32_t id, const char *name)
{
	if (!strcmp(name, STEER_PROG_NAME)) {
		f->prog_id = id;
	} else if (!strncmp(name, STEER_PROG_PREFIX, strlen(STEER_PROG_PREFIX))) {
		f->prog_id = id;
		f->other_version = true;
	} else if (!f->foreign[0]) {
		snprintf(f->foreign, sizeof(f->foreign), "%s (id %u)", name[0] ? name : "unnamed", id);
	}
}

/* The programs behind libxdp's dispatcher. */
static int find_chained(unsigned ifindex, struct steer_found *f)
{
	struct xdp_multiprog *mp = xdp_multiprog__get_from_ifindex((int)ifindex);
	struct xdp_program *p = NULL;
	long err = libxdp_get_error(mp);

	if (err)
		return (int)err;
	while ((p = xdp_multiprog__next_prog(p, mp)))
		found_prog(f, xdp_program__id(p), xdp_program__name(p));
	f->dispatcher = !xdp_multiprog__is_legacy(mp);
	xdp_multiprog__close(mp);
	return 0;
}

static int find_quietly(unsigned ifindex, struct steer_found *f)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, q);
	char name[BPF_OBJ_NAME_LEN] = "";
	uint32_t id;
	int err;

	memset(f, 0, sizeof(*f));
	err = bpf_xdp_query((int)ifindex, 0, &q);
	if (err)
		return err;
	id = q.drv_prog_id ? q.drv_prog_id : q.skb_prog_id ? q.skb_prog_id :
	     q.hw_prog_id ? q.hw_prog_id : q.prog_id;
	if (!id)
		return 0;
	f->native = q.drv_prog_id == id;
	err = prog_name(id, name);
	if (err) {
		snprintf(f->foreign, sizeof(f->foreign), "program id %u", id);
		return err == -ENOENT ? -EAGAIN : err; /* detached meanwhile */
	}
	if (!strcmp(name, "xdp_dispatcher")) {
		f->dispatcher = true;
		err = find_chained(ifindex, f);
		if (err)
			found_prog(f, id, name); /* unreadable: somebody else's, then */
		return 0;
	}
	found_prog(f, id, name);
	return 0;
}

int steer_find(unsigned ifindex, struct steer_found *out)
{
	struct quiet q;
	int err = 0;

	quiet_begin(&q);
	for (int i = 0; i < 5; i++) {
		err = find_quietly(ifindex, out);
		if (err != -EAGAIN)
			break;
	}
	quiet_end(&q);
	return err;
}

int steer_status(unsigned ifindex, struct steer_status *out)
{
	struct steer_found f;
	struct steer *st;
	char why[STEER_WHY];
	int err = steer_find(ifindex, &f);

	memset(out, 0, sizeof(*out));
	snprintf(out->foreign, sizeof(out->foreign), "%s", f.foreign);
	if (err)
		return err;
	out->attached = f.prog_id && !f.other_version;
	out->native = f.native;
	out->dispatcher = f.dispatcher;
	out->prog_id = f.prog_id;
	if (f.other_version)
		snprintf(out->mode_why, sizeof(out->mode_why),
			 "the program is of another version of nstack");
	if (out->attached && !steer_open(&st, ifindex, why)) {
		memcpy(out->mode_why, st->meta->mode_why, sizeof(out->mode_why));
		out->mode_why[sizeof(out->mode_why) - 1] = 0;
		steer_close(st);
	}
	return 0;
}

/* --- attach -------------------------------------------------------------------------------- */

static void driver_of(const char *ifname, char driver[32])
{
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq ifr = { .ifr_data = (void *)&info };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	driver[0] = 0;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", ifname);
	if (fd >= 0 && !ioctl(fd, SIOCETHTOOL, &ifr))
		snprintf(driver, 32, "%s", info.driver);
	if (fd >= 0)
		close(fd);
}

/* Without libxdp: ours alone, and only where nothing is attached. */
static int attach_alone(unsigned ifindex, enum xdp_attach_mode mode)
{
	struct steer_bpf *skel = steer_bpf__open_and_load();
	__u32 flags = XDP_FLAGS_UPDATE_IF_NOEXIST |
		      (mode == XDP_MODE_NATIVE ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE);
	const struct bpf_program *prog;
	int err;

	if (!skel)
		return errno ? -errno : -ENOMEM;
	prog = bpf_object__find_program_by_name(skel->obj, STEER_PROG_NAME);
	err = prog ? bpf_xdp_attach((int)ifindex, bpf_program__fd(prog), flags, NULL) : -ENOENT;
	steer_bpf__destroy(skel);
	return err;
}

/* Through libxdp. Its dispatcher needs a bpffs for its own records: where that (or anything but
 * the program's right to be there) fails, ours goes alone. */
static int attach_in(unsigned ifindex, enum xdp_attach_mode mode)
{
	struct steer_bpf *skel = steer_bpf__open();
	struct xdp_program *prog;
	long err;

	if (!skel)
		return errno ? -errno : -ENOMEM;
	DECLARE_LIBXDP_OPTS(xdp_program_opts, opts, .obj = skel->obj, .prog_name = STEER_PROG_NAME);
	prog = xdp_program__create(&opts);
	err = libxdp_get_error(prog);
	if (!err) {
		err = xdp_program__attach(prog, (int)ifindex, mode, 0);
		xdp_program__close(prog);
	}
	steer_bpf__destroy(skel);
	if (err && err != -EPERM && err != -EBUSY && err != -EEXIST && !attach_alone(ifindex, mode))
		err = 0;
	return (int)err;
}

static int load_native(unsigned ifindex, const char *driver, char why[160])
{
	int err = attach_in(ifindex, XDP_MODE_NATIVE);

	if (err) {
		snprintf(why, 160, "native refused (driver %s): %s", driver, strerror(-err));
		return err;
	}
	snprintf(why, 160, "native: driver %s supports it", driver);
	return 0;
}

/* Tries the modes that `mode` allows; mode_why says which and why. */
static int load_modes(unsigned ifindex, const char *ifname, enum steer_mode mode,
		      char mode_why[160])
{
	char driver[32], refused[160] = "";
	int err;

	driver_of(ifname, driver);
	if (mode == STEER_MODE_NATIVE) {
		err = load_native(ifindex, driver, mode_why);
		if (!err)
			snprintf(mode_why, 160, "native: asked for");
		return err;
	}
	if (mode == STEER_MODE_AUTO && strcmp(driver, "veth")) {
		err = load_native(ifindex, driver, refused);
		if (!err || err == -EPERM || err == -EBUSY) {
			memcpy(mode_why, refused, 160);
			return err;
		}
	}
	err = attach_in(ifindex, XDP_MODE_SKB);
	if (err)
		snprintf(mode_why, 160, "%s", strerror(-err));
	else if (mode == STEER_MODE_GENERIC)
		snprintf(mode_why, 160, "generic: asked for");
	else if (refused[0])
		snprintf(mode_why, 160, "generic: %.140s", refused);
	else
		snprintf(mode_why, 160, "generic: on veth it keeps the peer's segmentation offload, so "
			 "packets up to 64 KB arrive whole");
	return err;
}

static int say(char why[STEER_WHY], int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, STEER_WHY, fmt, ap);
	va_end(ap);
	return err;
}

/* After attaching: what the maps should know, and pins. */
static int load_finish(unsigned ifindex, const char *ifname, const char mode_why[160],
		       char why[STEER_WHY])
{
	struct steer *st;
	int err = steer_open(&st, ifindex, why);

	if (err)
		return err;
	memcpy(st->meta->mode_why, mode_why, 160);
	steer_pins_make(st);
	steer_close(st);
	snprintf(why, STEER_WHY, "%s: attached, %s", ifname, mode_why);
	return 0;
}

static int load_locked(unsigned ifindex, const char *ifname, enum steer_mode mode,
		       char why[STEER_WHY])
{
	char mode_why[160] = "";
	struct steer_found f;
	struct quiet q;
	int err = steer_find(ifindex, &f);

	if (err)
		return say(why, err, "%s: can't look at XDP programs: %s%s", ifname, strerror(-err),
			   err == -EPERM ? " (needs root, or CAP_NET_ADMIN, CAP_BPF and CAP_SYS_ADMIN)"
			   : "");
	if (f.other_version)
		return say(why, -EPROTO, "%s: the program of another version of nstack is attached; "
			   "run `nstack unload %s` of that version first", ifname, ifname);
	if (f.prog_id)
		return say(why, 0, "%s: attached already", ifname);
	if (f.foreign[0] && !f.dispatcher)
		return say(why, -EBUSY, "%s: XDP program %s of somebody else is attached and can't be "
			   "chained; detach it first", ifname, f.foreign);
	steer_pins_remove(ifindex); /* left over from an interface of that number */
	quiet_begin(&q);
	err = load_modes(ifindex, ifname, mode, mode_why);
	quiet_end(&q);
	if (err && f.foreign[0])
		return say(why, -EBUSY, "%s: can't be chained with XDP program %s: %s; detach it first",
			   ifname, f.foreign, strerror(-err));
	if (err)
		return say(why, err, "%s: attaching failed: %s%s%s", ifname, mode_why,
			   last_words[0] ? "; " : "", last_words);
	return load_finish(ifindex, ifname, mode_why, why);
}

/* The interface's name and lock: an fd for steer_unlock(), or -errno and why. */
static int name_and_lock(unsigned ifindex, char ifname[IF_NAMESIZE], char why[STEER_WHY])
{
	int lock;

	why[0] = 0;
	if (!if_indextoname(ifindex, ifname))
		return say(why, -ENODEV, "no interface has the index %u", ifindex);
	lock = steer_lock(ifindex);
	if (lock < 0)
		return say(why, lock, "%s: lock file in " LOCK_DIR ": %s", ifname, strerror(-lock));
	return lock;
}

int steer_load(unsigned ifindex, enum steer_mode mode, char why[STEER_WHY])
{
	char ifname[IF_NAMESIZE];
	int lock = name_and_lock(ifindex, ifname, why), err;

	if (lock < 0)
		return lock;
	err = load_locked(ifindex, ifname, mode, why);
	steer_unlock(lock);
	return err;
}

/* --- detach -------------------------------------------------------------------------------- */

static int detach_chained(unsigned ifindex, uint32_t id)
{
	struct xdp_multiprog *mp = xdp_multiprog__get_from_ifindex((int)ifindex);
	struct xdp_program *p = NULL;
	long err = libxdp_get_error(mp);

	if (err)
		return (int)err;
	err = -ENOENT;
	while ((p = xdp_multiprog__next_prog(p, mp))) {
		if (xdp_program__id(p) == id) {
			err = xdp_program__detach(p, (int)ifindex, xdp_multiprog__attach_mode(mp), 0);
			break;
		}
	}
	xdp_multiprog__close(mp);
	return (int)err;
}

static int detach_single(unsigned ifindex, const struct steer_found *f)
{
	LIBBPF_OPTS(bpf_xdp_attach_opts, opts);
	int fd = bpf_prog_get_fd_by_id(f->prog_id), err;

	if (fd < 0)
		return -errno;
	opts.old_prog_fd = fd; /* detach this program, not one that came in between */
	err = bpf_xdp_detach((int)ifindex, f->native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE, &opts);
	close(fd);
	return err;
}

static int unload_locked(unsigned ifindex, const char *ifname, const struct steer_found *f, char why[STEER_WHY])
{
	struct quiet q;
	int err = 0;

	if (f->prog_id) {
		quiet_begin(&q);
		err = f->dispatcher ? detach_chained(ifindex, f->prog_id) : detach_single(ifindex, f);
		quiet_end(&q);
	}
	if (err)
		return say(why, err, "%s: detaching failed: %s", ifname, strerror(-err));
	steer_pins_remove(ifindex);
	return say(why, 0, f->prog_id ? "%s: detached" : "%s: not attached", ifname);
}

int steer_unload(unsigned ifindex, char why[STEER_WHY])
{
	char ifname[IF_NAMESIZE];
	struct steer_found f;
	int lock = name_and_lock(ifindex, ifname, why), err;

	if (lock < 0)
		return lock;
	err = steer_find(ifindex, &f);
	err = err ? say(why, err, "%s: detaching failed: %s", ifname, strerror(-err)) :
	      unload_locked(ifindex, ifname, &f, why);
	steer_unlock(lock);
	return err;
}

/* --- for a driver that attaches it --------------------------------------------------------- */

int steer_turn(unsigned ifindex)
{
	return lock_of("turn", ifindex);
}

void steer_turn_end(int turn)
{
	steer_unlock(turn);
}

static bool in_use(unsigned ifindex)
{
	char why[STEER_WHY];
	struct steer *st;
	bool used = false;

	if (steer_open(&st, ifindex, why))
		return true; /* not ours to judge */
	for (unsigned i = 1; i < STEER_INSTANCES && !used; i++)
		used = steer_instance_alive(&st->instances[i]);
	steer_close(st);
	return used;
}

static int room_locked(unsigned ifindex, const char *ifname, char why[STEER_WHY])
{
	struct steer_found f;
	int err = steer_find(ifindex, &f);

	if (err)
		return say(why, err, "%s: can't look at XDP programs: %s", ifname, strerror(-err));
	if (f.foreign[0])
		return say(why, -EBUSY, "%s: XDP program %s of somebody else is attached, and DPDK shares with none; "
			   "detach it first", ifname, f.foreign);
	if (f.prog_id && in_use(ifindex))
		return say(why, -EBUSY, "%s: another program under nstack has it", ifname);
	return unload_locked(ifindex, ifname, &f, why);
}

static int image_fd(void)
{
	size_t size;
	const void *image = steer_bpf__elf_bytes(&size);
	int fd = nst_fd_own(memfd_create("nstack-steer", MFD_CLOEXEC)), err;

	if (fd < 0)
		return -errno;
	if (write(fd, image, size) == (ssize_t)size)
		return fd;
	err = errno ? -errno : -EIO;
	nst_fd_close(fd);
	return err;
}

int steer_lend(unsigned ifindex, char why[STEER_WHY])
{
	char ifname[IF_NAMESIZE];
	int lock = name_and_lock(ifindex, ifname, why), err;

	if (lock < 0)
		return lock;
	err = room_locked(ifindex, ifname, why);
	steer_unlock(lock);
	if (err)
		return err;
	err = image_fd();
	return err < 0 ? say(why, err, "%s: no memory for the program: %s", ifname, strerror(-err)) : err;
}

int steer_lent(unsigned ifindex, const char *mode_why, char why[STEER_WHY])
{
	char ifname[IF_NAMESIZE], text[160] = "";
	int lock = name_and_lock(ifindex, ifname, why), err;

	if (lock < 0)
		return lock;
	snprintf(text, sizeof(text), "%s", mode_why);
	err = load_finish(ifindex, ifname, text, why);
	steer_unlock(lock);
	return err;
}
