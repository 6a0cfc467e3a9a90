/* SPDX-License-Identifier: Apache-2.0 */
/* shm/fd_host.c - who keeps descriptors out of the program's way; see nstack/fd_host.h */
#include <nstack/fd_host.h>

struct nst_fd_host nst_fd_host;
