// SPDX-License-Identifier: GPL-2.0
/* See shim.h. */

#include <linux/bio.h>
#include <linux/cc_platform.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/oom.h>
#include <linux/percpu.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/suspend.h>
#include <linux/swap.h>
#include <linux/version.h>
#include <linux/virtio_config.h>

#include "shim.h"

/* The Rust module! macro has no field for the version. */
MODULE_VERSION("0.1.0");

#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 3, 0)

void tmem_spin_lock_irq_disable(spinlock_t *lock)
{
	spin_lock_irq_disable(lock);
}

bool tmem_spin_trylock_irq_disable(spinlock_t *lock)
{
	return spin_trylock_irq_disable(lock);
}

void tmem_spin_unlock_irq_enable(spinlock_t *lock)
{
	spin_unlock_irq_enable(lock);
}

#else

#ifdef CONFIG_PREEMPT_RT
/* Spinlocks leave interrupts enabled, and their holders may sleep. */
static void irq_disable(void) { }
static void irq_enable(void) { }
#else
/* Used with interrupts disabled only. */
struct irq_state {
	unsigned int depth;
	unsigned long flags;
};
static DEFINE_PER_CPU(struct irq_state, irq_state);

static void irq_disable(void)
{
	struct irq_state *state;
	unsigned long flags;

	local_irq_save(flags);
	state = this_cpu_ptr(&irq_state);
	if (state->depth++ == 0)
		state->flags = flags;
}

static void irq_enable(void)
{
	struct irq_state *state = this_cpu_ptr(&irq_state);

	if (--state->depth == 0)
		local_irq_restore(state->flags);
}
#endif

void tmem_spin_lock_irq_disable(spinlock_t *lock)
{
	irq_disable();
	spin_lock(lock);
}

bool tmem_spin_trylock_irq_disable(spinlock_t *lock)
{
	irq_disable();
	if (spin_trylock(lock))
		return true;
	irq_enable();
	return false;
}

void tmem_spin_unlock_irq_enable(spinlock_t *lock)
{
	spin_unlock(lock);
	irq_enable();
}

#endif

struct virtio_driver *tmem_virtio_driver_of(struct virtio_device *vdev)
{
	return drv_to_virtio(vdev->dev.driver);
}

void *tmem_virtio_priv(struct virtio_device *vdev)
{
	return vdev->priv;
}

void tmem_virtio_set_priv(struct virtio_device *vdev, void *priv)
{
	vdev->priv = priv;
}

void tmem_virtio_read_config(struct virtio_device *vdev, void *to, unsigned int len)
{
	/* 8 bytes at a time, the most that transports take; virtio-pci has a BUG(). */
	__virtio_cread_many(vdev, 0, to, len / 8, 8);
}

int tmem_virtio_find_vqs(struct virtio_device *vdev, unsigned int count,
			 struct virtqueue **vqs, void (*callback)(struct virtqueue *))
{
	struct virtqueue_info *infos;
	unsigned int i;
	int err;

	infos = kcalloc(count, sizeof(*infos), GFP_KERNEL);
	if (!infos)
		return -ENOMEM;
	for (i = 0; i < count; i++) {
		infos[i].name = i ? "requests" : "events";
		infos[i].callback = callback;
	}
	err = virtio_find_vqs(vdev, count, vqs, infos, NULL);
	kfree(infos);
	return err;
}

void tmem_virtio_ready(struct virtio_device *vdev)
{
	/* The core has set DRIVER_OK already when a device is restored. */
	if (!(vdev->config->get_status(vdev) & VIRTIO_CONFIG_S_DRIVER_OK))
		virtio_device_ready(vdev);
}

void tmem_virtio_del_vqs(struct virtio_device *vdev)
{
	vdev->config->del_vqs(vdev);
}

void tmem_virtio_reset(struct virtio_device *vdev)
{
	virtio_reset_device(vdev);
	/* virtio-mmio does not wait for callbacks by itself. */
	virtio_synchronize_cbs(vdev);
}

bool tmem_virtio_needs_reset(struct virtio_device *vdev)
{
	u8 status = vdev->config->get_status(vdev);

	/* A device that was torn out reads as all ones. */
	return status != 0xff && (status & VIRTIO_CONFIG_S_NEEDS_RESET);
}

bool tmem_virtio_trylock(struct virtio_device *vdev)
{
	/* A bus that resets or suspends the device holds only the parent's lock. */
	if (!device_trylock(vdev->dev.parent))
		return false;
	if (device_trylock(&vdev->dev))
		return true;
	device_unlock(vdev->dev.parent);
	return false;
}

void tmem_virtio_unlock(struct virtio_device *vdev)
{
	device_unlock(&vdev->dev);
	device_unlock(vdev->dev.parent);
}

void tmem_virtio_take_features(struct virtio_device *vdev)
{
	u64 offered[VIRTIO_FEATURES_U64S];
	unsigned int i;

	virtio_add_status(vdev, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	virtio_add_status(vdev, VIRTIO_CONFIG_S_DRIVER);
	virtio_get_features(vdev, offered);
	/* As virtio_dev_probe() does; the driver has no features of its own. */
	for (i = VIRTIO_TRANSPORT_F_START; i < VIRTIO_TRANSPORT_F_END; i++) {
		if (virtio_features_test_bit(offered, i))
			__virtio_set_bit(vdev, i);
		else
			__virtio_clear_bit(vdev, i);
	}
	/* Set up anew, whatever became of it before. */
	vdev->failed = false;
}

void tmem_sg_set_page(struct scatterlist *sg, struct page *page,
		      unsigned int len, unsigned int offset)
{
	sg_unmark_end(sg);
	sg_set_page(sg, page, len, offset);
}

void tmem_sg_set_buf(struct scatterlist *sg, const void *buf, unsigned int len)
{
	sg_unmark_end(sg);
	sg_set_buf(sg, buf, len);
}

void tmem_sg_mark_end(struct scatterlist *sg)
{
	sg_mark_end(sg);
}

bool tmem_bio_next(struct bio *bio, struct bvec_iter *iter, struct bio_vec *out)
{
	if (!iter->bi_size)
		return false;
	*out = mp_bvec_iter_bvec(bio->bi_io_vec, *iter);
	bio_advance_iter_single(bio, iter, out->bv_len);
	return true;
}

void tmem_bio_zero(struct bio *bio, unsigned int offset, unsigned int len)
{
	struct bvec_iter start = bio->bi_iter;
	struct bvec_iter iter;
	struct bio_vec bvec;

	bio_advance_iter(bio, &start, offset);
	start.bi_size = min(start.bi_size, len);
	__bio_for_each_segment(bvec, bio, iter, start)
		memzero_bvec(&bvec);
}

void tmem_bio_copy(struct bio *bio, unsigned int offset, void *mem, unsigned int len, bool back)
{
	struct bvec_iter iter = bio->bi_iter;
	struct bio_vec bvec;

	if (offset)
		bio_advance_iter(bio, &iter, offset);
	iter.bi_size = min(iter.bi_size, len);
	__bio_for_each_segment(bvec, bio, iter, iter) {
		if (back)
			memcpy_to_bvec(&bvec, mem);
		else
			memcpy_from_bvec(mem, &bvec);
		mem += bvec.bv_len;
	}
}

void tmem_bio_mark_read(struct bio *bio, unsigned int offset, unsigned int len)
{
	struct bvec_iter iter = bio->bi_iter;
	struct bio_vec bvec;

	if (offset)
		bio_advance_iter(bio, &iter, offset);
	iter.bi_size = min(iter.bi_size, len);
	for (; iter.bi_size; bio_advance_iter_single(bio, &iter, bvec.bv_len)) {
		struct folio *folio;

		bvec = mp_bvec_iter_bvec(bio->bi_io_vec, iter);
		folio = page_folio(bvec.bv_page);
		/* The swap code has a vector for each folio, and all of the same sort in a bio. */
		if (!folio_test_swapcache(folio))
			return;
		if (!bvec.bv_offset && bvec.bv_page == folio_page(folio, 0) &&
		    bvec.bv_len == folio_size(folio) && folio_test_locked(folio) &&
		    !folio_test_uptodate(folio))
			folio_mark_uptodate(folio);
	}
}

void tmem_unplug(struct blk_plug_cb *cb)
{
	list_del(&cb->list);
	cb->callback(cb, false);
}

bool tmem_may_wait_for_reclaim(void)
{
	return !(current->flags & PF_KTHREAD) || current_is_kswapd();
}

void tmem_spin_begin(void)
{
	if (!IS_ENABLED(CONFIG_PREEMPT_RT))
		preempt_disable();
}

void tmem_spin_end(void)
{
	if (!IS_ENABLED(CONFIG_PREEMPT_RT))
		preempt_enable();
}

bool tmem_spin_goes_on(void)
{
	cpu_relax();
	return !need_resched() && single_task_running();
}

struct workqueue_struct *tmem_alloc_workqueue(const char *name, bool freezable)
{
	/* Flushes and a returning device are what reclaim waits for. */
	return alloc_workqueue("%s", WQ_MEM_RECLAIM | WQ_UNBOUND |
			       (freezable ? WQ_FREEZABLE : 0), 0, name);
}

static bool (*tmem_hibernation_refuses)(void *data, bool begins);
static void *tmem_hibernation_data;

static int tmem_hibernation_notify(struct notifier_block *nb, unsigned long event, void *unused)
{
	switch (event) {
	case PM_HIBERNATION_PREPARE:
		if (tmem_hibernation_refuses(tmem_hibernation_data, true))
			return notifier_from_errno(-EBUSY);
		break;
	case PM_POST_HIBERNATION:
		tmem_hibernation_refuses(tmem_hibernation_data, false);
		break;
	}
	return NOTIFY_OK;
}

static struct notifier_block tmem_hibernation_nb = {
	.notifier_call = tmem_hibernation_notify,
};

int tmem_hibernation_register(bool (*refuses)(void *data, bool begins), void *data)
{
	/* Once in the module's life. */
	if (cmpxchg(&tmem_hibernation_refuses, NULL, refuses))
		return -EBUSY;
	tmem_hibernation_data = data;
	return register_pm_notifier(&tmem_hibernation_nb);
}

void tmem_hibernation_unregister(void)
{
	unregister_pm_notifier(&tmem_hibernation_nb);
}

static unsigned long (*tmem_oom_relieve)(void *data);
static void *tmem_oom_data;

static int tmem_oom_notify(struct notifier_block *nb, unsigned long unused, void *freed)
{
	*(unsigned long *)freed += tmem_oom_relieve(tmem_oom_data);
	return NOTIFY_OK;
}

static struct notifier_block tmem_oom_nb = {
	.notifier_call = tmem_oom_notify,
};

int tmem_oom_register(unsigned long (*relieve)(void *data), void *data)
{
	/* Once in the module's life. */
	if (cmpxchg(&tmem_oom_relieve, NULL, relieve))
		return -EBUSY;
	tmem_oom_data = data;
	return register_oom_notifier(&tmem_oom_nb);
}

void tmem_oom_unregister(void)
{
	unregister_oom_notifier(&tmem_oom_nb);
}

unsigned int tmem_disk_openers(struct gendisk *disk)
{
	return disk_openers(disk);
}

int tmem_page_reporting_register(struct page_reporting_dev_info *info, unsigned int capacity)
{
#ifdef CONFIG_PAGE_REPORTING
	if (page_poisoning_enabled_static())
		return -EOPNOTSUPP;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 3, 0)
	info->capacity = capacity;
#endif
	return page_reporting_register(info);
#else
	return -EOPNOTSUPP;
#endif
}

unsigned int tmem_page_reporting_largest_order(void)
{
	return MAX_PAGE_ORDER;
}

void tmem_page_reporting_unregister(struct page_reporting_dev_info *info)
{
#ifdef CONFIG_PAGE_REPORTING
	page_reporting_unregister(info);
#endif
}

phys_addr_t tmem_sg_phys(struct scatterlist *sg)
{
	return sg_phys(sg);
}

unsigned int tmem_sg_len(struct scatterlist *sg)
{
	return sg->length;
}

struct scatterlist *tmem_sg_next(struct scatterlist *sg)
{
	return sg_next(sg);
}

bool tmem_module_try_get(void)
{
	return try_module_get(THIS_MODULE);
}

bool tmem_module_is_live(void)
{
#ifdef MODULE
	return READ_ONCE(THIS_MODULE->state) == MODULE_STATE_LIVE;
#else
	return true;
#endif
}

void tmem_module_put(void)
{
	module_put(THIS_MODULE);
}

bool tmem_signal_pending(void)
{
	return signal_pending(current);
}

u64 tmem_memory_pages(void)
{
	return totalram_pages();
}

u64 tmem_available_pages(void)
{
	return max(si_mem_available(), 0L);
}

bool tmem_is_confidential(void)
{
	return cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT);
}
