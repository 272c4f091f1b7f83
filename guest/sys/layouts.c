// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel's compiler, with all of the kernel's flags, says of the types
 * that bindgen reads with few of them. Kbuild makes a header of these numbers,
 * and bindings.rs compares them with bindgen's.
 */

#include <linux/kbuild.h>
#include <linux/page_reporting.h>
#include <linux/virtio.h>

#include "shim.h"

#define SIZE(type) DEFINE(TMEM_SIZE_##type, sizeof(struct type))
#define OFFSET_OF(type, field) \
	DEFINE(TMEM_OFFSET_##type##_##field, offsetof(struct type, field))

void tmem_layouts(void);

void tmem_layouts(void)
{
	SIZE(virtio_driver);
	OFFSET_OF(virtio_driver, driver);
	OFFSET_OF(virtio_driver, id_table);
	OFFSET_OF(virtio_driver, probe);
	OFFSET_OF(virtio_driver, remove);
	OFFSET_OF(virtio_driver, config_changed);
	OFFSET_OF(virtio_driver, freeze);
	OFFSET_OF(virtio_driver, restore);
	OFFSET_OF(virtio_driver, reset_prepare);
	OFFSET_OF(virtio_driver, reset_done);

	SIZE(virtio_device_id);
	OFFSET_OF(virtio_device_id, device);
	OFFSET_OF(virtio_device_id, vendor);

	SIZE(virtqueue);
	OFFSET_OF(virtqueue, vdev);
	OFFSET_OF(virtqueue, index);

	SIZE(page_reporting_dev_info);
	OFFSET_OF(page_reporting_dev_info, report);
	OFFSET_OF(page_reporting_dev_info, order);

	SIZE(tmem_span);
	OFFSET_OF(tmem_span, from);
	OFFSET_OF(tmem_span, to);

	SIZE(tmem_evictions);
	OFFSET_OF(tmem_evictions, most);
	OFFSET_OF(tmem_evictions, evicted);
	OFFSET_OF(tmem_evictions, data);

	DEFINE(TMEM_VALUE_GFP_NOIO, (__force unsigned int)GFP_NOIO);
}
