// SPDX-License-Identifier: GPL-2.0
/* See shim.h. */

#include <linux/bio.h>
#include <linux/blk-crypto.h>
#include <linux/blk-integrity.h>
#include <linux/blk-mq.h>
#include <linux/delay.h>
#include <linux/kdev_t.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/swap.h>
#include <linux/virtio_config.h>

#include "shim.h"

/* The Rust module! macro has no field for the version. */
MODULE_VERSION("0.1.0");

unsigned long tmem_spin_lock_irqsave(spinlock_t *lock)
{
	unsigned long flags;

	spin_lock_irqsave(lock, flags);
	return flags;
}

bool tmem_spin_trylock_irqsave(spinlock_t *lock, unsigned long *flags)
{
	return spin_trylock_irqsave(lock, *flags);
}

void tmem_spin_unlock_irqrestore(spinlock_t *lock, unsigned long flags)
{
	spin_unlock_irqrestore(lock, flags);
}

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

void tmem_unplug(struct blk_plug_cb *cb)
{
	list_del(&cb->list);
	cb->callback(cb, false);
}

bool tmem_may_wait_for_reclaim(void)
{
	return !(current->flags & PF_KTHREAD) || current_is_kswapd();
}

struct workqueue_struct *tmem_alloc_workqueue(bool freezable)
{
	/* Flushes and a returning device are what reclaim waits for. */
	return alloc_workqueue("tmem%s", WQ_MEM_RECLAIM | WQ_UNBOUND |
			       (freezable ? WQ_FREEZABLE : 0), 0,
			       freezable ? "-device" : "-flush");
}

unsigned int tmem_disk_openers(struct gendisk *disk)
{
	return disk_openers(disk);
}

struct file *tmem_bdev_open(unsigned int major, unsigned int minor)
{
	return bdev_file_open_by_dev(MKDEV(major, minor), BLK_OPEN_READ, NULL, NULL);
}

void tmem_bdev_close(struct file *file)
{
	bdev_fput(file);
}

bool tmem_bdev_is_zoned(struct block_device *bdev)
{
	return bdev_is_zoned(bdev);
}

struct block_device *tmem_bdev_shadow(struct block_device *bdev, bool mq)
{
	struct block_device *shadow = kmemdup(bdev, sizeof(*bdev), GFP_KERNEL);

	if (shadow && mq)
		bdev_clear_flag(shadow, BD_HAS_SUBMIT_BIO);
	return shadow;
}

bool tmem_disk_is_mq(struct gendisk *disk)
{
	return queue_is_mq(disk->queue);
}

static bool tmem_touches(struct block_device *bdev, const struct tmem_span *spans,
			 unsigned int count)
{
	sector_t from = bdev->bd_start_sect;
	sector_t to = from + bdev_nr_sectors(bdev);
	unsigned int i;

	if (!bdev_is_partition(bdev))
		return count > 0;
	for (i = 0; i < count; i++)
		if (from < spans[i].to && spans[i].from < to)
			return true;
	return false;
}

void tmem_disk_refit(struct gendisk *disk, const struct block_device_operations *fops,
		     void **slot, void *value, const struct tmem_span *spans,
		     unsigned int count)
{
	struct block_device *bdev;
	unsigned int memflags;
	unsigned long i;

	/* First, because who has it reads partitions, and so waits for the queue. */
	mutex_lock(&disk->open_mutex);
	memflags = blk_mq_freeze_queue(disk->queue);
	WRITE_ONCE(disk->fops, fops);
	WRITE_ONCE(*slot, value);
	if (queue_is_mq(disk->queue)) {
		xa_for_each(&disk->part_tbl, i, bdev) {
			if (tmem_touches(bdev, spans, count))
				bdev_set_flag(bdev, BD_HAS_SUBMIT_BIO);
			else
				bdev_clear_flag(bdev, BD_HAS_SUBMIT_BIO);
		}
	}
	blk_mq_unfreeze_queue(disk->queue, memflags);
	mutex_unlock(&disk->open_mutex);
}

static bool tmem_is_quiet(struct gendisk *disk)
{
	struct request_queue *q = disk->queue;

	/* Nobody enters the queue of a disk that is gone. */
	return !disk_live(disk) ||
	       (!q->mq_freeze_depth && !waitqueue_active(&q->mq_freeze_wq) &&
		!blk_queue_pm_only(q));
}

void tmem_disk_pass_over(struct gendisk *disk, const struct block_device_operations *fops)
{
	struct request_queue *q = disk->queue;
	bool done;

	/*
	 * __submit_bio() looks at the flag first and enters the queue then. Between the two a task
	 * does not sleep, but for a frozen queue. So while nobody can freeze it, and nobody waits
	 * for it, each task that has looked is preempted at most, and that is what RCU for tasks
	 * waits for.
	 */
	do {
		mutex_lock(&q->mq_freeze_lock);
		done = tmem_is_quiet(disk);
		if (done) {
			synchronize_rcu_tasks();
			done = tmem_is_quiet(disk);
		}
		if (done && fops)
			WRITE_ONCE(disk->fops, fops);
		mutex_unlock(&q->mq_freeze_lock);
		if (!done)
			msleep(1);
	} while (!done);
}

void tmem_disk_settle(struct gendisk *disk)
{
	unsigned int memflags = blk_mq_freeze_queue(disk->queue);

	blk_mq_unfreeze_queue(disk->queue, memflags);
}

void tmem_bio_as_checked(struct bio *clone, struct bio *original)
{
	const unsigned int charged = BIT(BIO_BPS_THROTTLED) | BIT(BIO_CGROUP_ACCT);

	/* Its sectors are those of the disk already; and it was charged for once. */
	clone->bi_flags |= original->bi_flags & charged;
	bio_set_flag(clone, BIO_REMAPPED);
	/* Nobody polls for a clone. */
	clone->bi_opf &= ~REQ_POLLED;
}

bool tmem_bio_is_plain(struct bio *bio)
{
	return !bio_has_crypt_ctx(bio) && !bio_integrity(bio);
}

bool tmem_bio_is_kernels(struct bio *bio)
{
	struct bvec_iter iter;
	struct bio_vec bvec;

	if (bio_flagged(bio, BIO_PAGE_PINNED))
		return false;
	bio_for_each_bvec(bvec, bio, iter) {
		struct folio *folio = page_folio(bvec.bv_page);

		if (folio_test_slab(folio))
			continue;
		if (folio_test_anon(folio) || folio_test_swapcache(folio) ||
		    folio_mapped(folio) || folio_maybe_dma_pinned(folio))
			return false;
	}
	return true;
}

void tmem_bio_copy(struct bio *to, struct bio *from, unsigned int offset)
{
	struct bio rest = {
		.bi_io_vec = from->bi_io_vec,
		.bi_iter = from->bi_iter,
		.bi_opf = from->bi_opf,
	};

	bio_advance_iter(&rest, &rest.bi_iter, offset);
	bio_copy_data(to, &rest);
}

void tmem_module_get(void)
{
	__module_get(THIS_MODULE);
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

bool tmem_bdev_is_own(struct block_device *bdev)
{
	return bdev->bd_disk->fops->owner == THIS_MODULE;
}

void tmem_bio_aim(struct bio *bio, struct block_device *bdev)
{
	bio_set_dev(bio, bdev);
	bio_set_flag(bio, BIO_REMAPPED);
}
