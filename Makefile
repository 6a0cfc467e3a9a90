# The whole build: one graph. Each folder lists its sources in module.mk.
#
#   make            build everything into $(O)
#   make demo       install what is needed, build, and show the main job
#   make test       install what is needed, build, and run every test
#   make check      unit tests only (no root, no network)
#   make check-apps real programs and all of CPython's socket tests under nstack
#   make test-dpdk  the oracle and real programs with packets by DPDK
#   make soak       real programs, kills and restarts for half an hour
#   make bench      measurements, side by side with the kernel
#   make install    DESTDIR, prefix, bindir, sbindir, libdir, includedir, mandir and unitdir work as usual
#   make uninstall  removes what install put there
#   make lint       static checks (cppcheck)
#
# HAL_DPDK=0 builds without DPDK; so does a machine that has no libdpdk.
# O=folder puts the build elsewhere; SAN=address,undefined gets a folder of its own; V=1 shows
# the commands; WERROR=1 makes warnings errors (CI does).

O ?= build$(if $(SAN),-$(firstword $(subst $(comma), ,$(SAN))))
comma := ,
prefix ?= /usr/local
bindir ?= $(prefix)/bin
sbindir ?= $(prefix)/sbin
libdir ?= $(prefix)/lib
includedir ?= $(prefix)/include
mandir ?= $(prefix)/share/man
unitdir ?= $(prefix)/lib/systemd/system
VERSION := 0.1.0
V ?= 0
Q := $(if $(filter 1,$(V)),,@)

CC ?= cc
CLANG ?= clang-14
BPFTOOL ?= /usr/sbin/bpftool
PKGS := libxdp libbpf liburcu-bp liburcu-cds libcjson libmnl

# pkg-config runs once, when the first object needs it (after `make deps` on a fresh machine)
PKG_CFLAGS = $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS = $(shell pkg-config --libs $(PKGS) 2>/dev/null)

WARN := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes \
        -Wno-unused-parameter $(if $(WERROR),-Werror)
OPT ?= -O2 -g
CFLAGS += -std=gnu11 $(OPT) $(WARN) -fPIC -fvisibility=hidden -ftls-model=initial-exec -fno-strict-aliasing -pthread \
          -Iinclude -I$(O)/include -I. -I$(O) $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer)
LDFLAGS += -pthread $(if $(SAN),-fsanitize=$(SAN))

all:

# Filled in by the folders:
#   LIB_SRCS    what libnsocket.so and the tool share (shm, rd, bpf/steer_ctl, hal_*, stacks)
#   NSOCKET_SRCS  only in libnsocket.so
#   TOOL_SRCS   only in the tool `nstack`
#   PLUGINS     libraries that are loaded by name when the configuration asks for them
#   UNIT_TESTS  tests/unit/X.c -> $(O)/tests/unit/X, run by `make check`; LINK_X lists extra objects
LIB_SRCS :=
NSOCKET_SRCS :=
TOOL_SRCS :=
UNIT_TESTS :=
PROGRAMS :=
PLUGINS :=
include $(sort $(wildcard */module.mk stacks/*/module.mk tests/*/module.mk))

objs = $(patsubst %.c,$(O)/%.o,$(1))
LIB_OBJS := $(call objs,$(LIB_SRCS))
NSOCKET_OBJS := $(call objs,$(NSOCKET_SRCS))
TOOL_OBJS := $(call objs,$(TOOL_SRCS))

all: $(O)/libnsocket.so $(O)/nstack $(PROGRAMS) $(PLUGINS) $(UNIT_TESTS:%=$(O)/%)

$(O)/libnstack.a: $(LIB_OBJS)
	@echo "  AR      $@"
	$(Q)rm -f $@ && ar rcs $@ $^

# --wrap: what the library itself asks of the kernel goes to libc's syscall(), not to the function of
# that name which it gives to programs
$(O)/libnsocket.so: $(NSOCKET_OBJS) $(O)/libnstack.a nsocket/libnsocket.map
	@echo "  LINK    $@"
	$(Q)$(CC) -shared $(LDFLAGS) -Wl,--version-script=nsocket/libnsocket.map -Wl,-z,defs,-z,now \
		-Wl,--wrap=syscall -Wl,-u,nsfw_recycle_reg_fun \
		-o $@ $(NSOCKET_OBJS) $(O)/libnstack.a $(PKG_LIBS) -ldl

$(O)/nstack: $(TOOL_OBJS) $(O)/libnstack.a
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $(TOOL_OBJS) $(O)/libnstack.a $(PKG_LIBS) $(TOOL_LIBS)

$(O)/%.o: %.c | $(DECLARE_SYSCALLS)
	@mkdir -p $(@D)
	@echo "  CC      $<"
	$(Q)$(CC) $(CFLAGS) $(PKG_CFLAGS) -MMD -MP -c -o $@ $<

# BPF: X.bpf.c -> X.bpf.o -> X.skel.h
$(O)/%.bpf.o: %.bpf.c
	@mkdir -p $(@D)
	@echo "  BPF     $<"
	$(Q)$(CLANG) -O2 -g -Wall -target bpf -mcpu=v3 -Iinclude -I. -I/usr/include/$(shell uname -m)-linux-gnu \
		-MMD -MP -MT $@ -MF $(@:.o=.d) -c -o $@ $<
$(O)/%.skel.h: $(O)/%.bpf.o
	@echo "  SKEL    $@"
	$(Q)$(BPFTOOL) gen skeleton $< name $(notdir $*)_bpf > $@.tmp && mv $@.tmp $@

$(O)/tests/unit/%: $(O)/tests/unit/%.o $(O)/libnstack.a
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(LINK_$*) $(O)/libnstack.a $(PKG_LIBS)

check: $(UNIT_TESTS:%=$(O)/%)
	$(Q)set -e; for t in $^; do echo "  TEST    $$t"; $$t; done

# --- installing -------------------------------------------------------------------------------
#
# The tool finds the library from its own place: beside it, in ../lib, ../lib64, ../lib/<triplet>
# or ../lib/nstack; with another libdir, NSTACK_LIB names it.

INSTALL ?= install
INSTALL_HEADERS := $(wildcard include/nstack/*.h)
INSTALL_MAN := $(wildcard docs/man/*.[1-9])
man_path = $(mandir)/man$(patsubst .%,%,$(suffix $(1)))/$(notdir $(1))

define PC
prefix=$(prefix)
libdir=$(libdir)
includedir=$(includedir)
preload=$${libdir}/libnsocket.so

Name: $(1)
Description: $(2)
Version: $(VERSION)
Cflags: $(3)
$(if $(4),Libs: $(4))
endef
PC_nstack = $(call PC,nstack,User-space network stack on AF_XDP under unmodified programs,-I$${includedir})
PC_libnStackAPI = $(call PC,libnStackAPI,The sockets of nstack for programs that are linked with it,\
	-I$${includedir},-L$${libdir} -lnStackAPI)
PC_libnStackAdapt = $(call PC,libnStackAdapt,What plug-in stacks of nstack use,\
	-I$${includedir} -I$${includedir}/nstack/dmm,-L$${libdir} -lnStackAdapt)
PCS := nstack libnStackAPI libnStackAdapt
# The names of the DMM manual for the library
LIB_LINKS := libnStackAPI.so libnStackAdapt.so

$(PCS:%=$(O)/%.pc): $(O)/%.pc: Makefile FORCE
	@mkdir -p $(@D)
	$(file >$@.tmp,$(PC_$*))
	$(Q)cmp -s $@.tmp $@ && rm $@.tmp || mv $@.tmp $@

$(LIB_LINKS:%=$(O)/%): $(O)/libnsocket.so
	$(Q)ln -sf libnsocket.so $@
all: $(LIB_LINKS:%=$(O)/%)

UNITS := $(O)/nstackd.service tools/nstackd/nstackd.socket
$(O)/nstackd.service: tools/nstackd/nstackd.service.in FORCE
	$(Q)sed 's,@sbindir@,$(sbindir),' $< >$@

install: $(UNITS) $(O)/libnsocket.so $(O)/nstack $(O)/nstackd $(O)/nstack-host $(PCS:%=$(O)/%.pc) $(PLUGINS)
	$(Q)$(INSTALL) -D -m 755 $(O)/nstack $(DESTDIR)$(bindir)/nstack
	$(Q)$(INSTALL) -D -m 755 $(O)/nstackd $(DESTDIR)$(sbindir)/nstackd
	$(Q)$(INSTALL) -D -m 755 $(O)/nstack-host $(DESTDIR)$(sbindir)/nstack-host
	$(Q)$(INSTALL) -D -m 644 $(O)/libnsocket.so $(DESTDIR)$(libdir)/libnsocket.so
	$(Q)$(foreach p,$(PLUGINS),$(INSTALL) -D -m 644 $(p) $(DESTDIR)$(libdir)/$(notdir $(p)) &&) true
	$(Q)$(foreach l,$(LIB_LINKS),ln -sf libnsocket.so $(DESTDIR)$(libdir)/$(l) &&) true
	$(Q)$(INSTALL) -d $(DESTDIR)$(libdir)/pkgconfig $(DESTDIR)$(includedir)/nstack/dmm
	$(Q)$(INSTALL) -m 644 $(PCS:%=$(O)/%.pc) $(DESTDIR)$(libdir)/pkgconfig
	$(Q)$(INSTALL) -m 644 $(INSTALL_HEADERS) $(DESTDIR)$(includedir)/nstack
	$(Q)$(INSTALL) -m 644 $(DECLARE_SYSCALLS) $(DESTDIR)$(includedir)/nstack/dmm
	$(Q)$(foreach m,$(INSTALL_MAN),$(INSTALL) -D -m 644 $(m) $(DESTDIR)$(call man_path,$(m)) &&) true
	$(Q)$(INSTALL) -d $(DESTDIR)$(unitdir)
	$(Q)$(INSTALL) -m 644 $(UNITS) $(DESTDIR)$(unitdir)

uninstall:
	rm -f $(DESTDIR)$(bindir)/nstack $(DESTDIR)$(sbindir)/nstackd $(DESTDIR)$(sbindir)/nstack-host \
		$(DESTDIR)$(libdir)/libnsocket.so \
		$(LIB_LINKS:%=$(DESTDIR)$(libdir)/%) $(PCS:%=$(DESTDIR)$(libdir)/pkgconfig/%.pc) \
		$(addprefix $(DESTDIR)$(libdir)/,$(notdir $(PLUGINS))) \
		$(addprefix $(DESTDIR),$(foreach m,$(INSTALL_MAN),$(call man_path,$(m)))) \
		$(addprefix $(DESTDIR)$(unitdir)/,$(notdir $(UNITS)))
	rm -rf $(DESTDIR)$(includedir)/nstack

# --- checks without running -------------------------------------------------------------------

LINT_SRCS := $(sort $(LIB_SRCS) $(NSOCKET_SRCS) $(TOOL_SRCS) $(NSTACKD_SRCS))
# results are kept by file, so a second run looks only at what changed
lint:
	@command -v cppcheck >/dev/null || { echo "make lint needs cppcheck"; exit 1; }
	@mkdir -p $(O)/lint
	$(Q)cppcheck --quiet -j2 --std=c11 --enable=warning,portability \
		--inline-suppr --error-exitcode=1 --cppcheck-build-dir=$(O)/lint --include=tools/cppcheck.h -Iinclude -I. \
		--suppressions-list=tools/cppcheck.supp $(LINT_SRCS)

deps:
	$(Q)tools/deps.sh

clean:
	rm -rf $(O)

-include $(shell find $(O) -name '*.d' 2>/dev/null)

FORCE:
.PHONY: all check deps clean test demo bench install uninstall lint FORCE
.DELETE_ON_ERROR:
.SECONDARY:
