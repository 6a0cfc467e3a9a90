/* SPDX-License-Identifier: Apache-2.0 */
/* tests/fuzz/fuzz_config.c - the configuration parser with foreign bytes
 *
 * Whatever the text is, parsing ends in a configuration or in a message; both are used afterwards
 * as the library would. Not here: files that a configuration names.
 */
#include <rd/config.h>
#include <rd/rules.h>
#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ns_config *c = NULL;
	char err[RD_ERR] = "";
	/* no byte behind the text may be read */
	char *text = malloc(size ? size : 1);
	int ret;

	memcpy(text, data, size);
	ret = rd_config_parse(text, size, "fuzz", &c, err);
	if (ret) {
		assert(ret < 0 && !c && err[0] && memchr(err, 0, sizeof(err)));
	} else {
		assert(c && c->spin_us <= 1000000 && c->n_interfaces <= NS_CONFIG_IFS);
		assert(!(c->rcvbuf & (c->rcvbuf - 1)) && !(c->frames & (c->frames - 1)));
		rd_config_has_if(c, "eth0");
	}
	rd_config_free(c);
	free(text);
	return 0;
}
