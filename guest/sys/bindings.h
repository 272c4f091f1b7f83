/* SPDX-License-Identifier: GPL-2.0 */
/* What bindgen reads: see Kbuild. */

#include <linux/virtio.h>

#include "shim.h"
/* What the kernel's compiler says of these types; see layouts.c. */
#include "layouts_generated.h"

/* VIRTIO_DEV_ANY_ID is a macro with a width of its own in C. */
static const unsigned int TMEM_ANY_VENDOR = VIRTIO_DEV_ANY_ID;
/* So are flags for allocations, of a type of their own. */
static const unsigned int TMEM_GFP_NOIO = (__force unsigned int)GFP_NOIO;
