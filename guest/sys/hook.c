// SPDX-License-Identifier: GPL-2.0
/* For hook.rs and its neighbours: see shim.h. */

#include <linux/bio.h>
#include <linux/blk-crypto.h>
#include <linux/blk-integrity.h>
#include <linux/blk-mq.h>
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/kdev_t.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/part_stat.h>
#include <linux/pm_runtime.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>

#include "shim.h"

struct file *tmem_bdev_open(unsigned int major, unsigned int minor)
{
	return bdev_file_open_by_dev(MKDEV(major, minor), BLK_OPEN_READ, NULL, NULL);
}

void tmem_bdev_close(struct file *file)
{
	bdev_fput(file);
}

bool tmem_bdev_cached(struct file *file, loff_t pos, void *to, size_t len)
{
	struct folio *folio;
	bool is_there;

	/* What is used stays longer. */
	folio = __filemap_get_folio(file->f_mapping, pos >> PAGE_SHIFT, FGP_ACCESSED, 0);
	if (IS_ERR(folio))
		return false;
	is_there = folio_test_uptodate(folio);
	if (is_there)
		memcpy_from_file_folio(to, folio, pos, len);
	folio_put(folio);
	return is_there;
}

int tmem_bdev_load(struct file *file, loff_t pos)
{
	char byte;
	ssize_t len = kernel_read(file, &byte, sizeof(byte), &pos);

	if (len < 0)
		return len;
	return len == sizeof(byte) ? 0 : -EIO;
}

int tmem_bdev_openers(struct block_device *bdev)
{
	return atomic_read(&bdev->bd_openers);
}

bool tmem_bdev_read_only(struct block_device *bdev)
{
	return bdev_read_only(bdev);
}

const char *tmem_bdev_unsuitable(struct block_device *bdev)
{
	struct gendisk *disk = bdev->bd_disk;
	const struct block_device_operations *fops = disk->fops;
	bool mq = queue_is_mq(disk->queue);

	if (fops->owner == THIS_MODULE)
		return "it is this module's own disk";
	if (bdev_is_zoned(bdev))
		return "it is zoned";
	if (disk->flags & GENHD_FL_REMOVABLE)
		return "its medium can be exchanged";
	if (blk_queue_dax(disk->queue))
		return "it can be written to past the block layer (DAX)";
	if (fops->swap_slot_free_notify)
		return "it keeps pages in memory itself";
	/* The driver knows these by the address of their operations. */
	if (!mq && !strncmp(disk->disk_name, "nvme", 4))
		return "it stands for several paths (NVMe multipath): attach to what is above it";
	/* Without, it can't be known when writes that are under way have ended. */
	if (!mq && !blk_queue_io_stat(disk->queue))
		return "it counts no I/O (see queue/iostats in its directory below /sys/block)";
	return NULL;
}

bool tmem_disk_has_writes(struct gendisk *disk)
{
	long writes = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		writes += part_stat_local_read_cpu(disk->part0, in_flight[WRITE], cpu);
	return writes > 0;
}

struct block_device *tmem_bdev_shadow(struct block_device *bdev, bool mq)
{
	struct block_device *shadow = kmemdup(bdev, sizeof(*bdev), GFP_KERNEL);

	if (shadow && mq)
		bdev_clear_flag(shadow, BD_HAS_SUBMIT_BIO);
	return shadow;
}

void tmem_disk_get(struct gendisk *disk)
{
	/* As long as there is a hook, the operations are its own: they name the same owner. */
	__module_get(disk->fops->owner);
	get_device(disk_to_dev(disk));
}

void tmem_disk_put(struct gendisk *disk)
{
	struct module *owner = disk->fops->owner;

	put_device(disk_to_dev(disk));
	module_put(owner);
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

/* Whether one who waits until a time, or 0 for as long as it takes, is to give up. */
static int tmem_gives_up(unsigned long until)
{
	if (!until)
		return 0;
	if (signal_pending(current))
		return -EINTR;
	return time_after(jiffies, until) ? -ETIMEDOUT : 0;
}

static unsigned long tmem_until(unsigned int ms)
{
	/* Never 0. */
	return ms ? (jiffies + msecs_to_jiffies(ms)) | 1 : 0;
}

static int tmem_freeze(struct request_queue *q, unsigned long until, unsigned int *memflags)
{
	int err;

	*memflags = memalloc_noio_save();
	blk_freeze_queue_start(q);
	while (!blk_mq_freeze_queue_wait_timeout(q, HZ / 10)) {
		err = tmem_gives_up(until);
		if (err) {
			blk_mq_unfreeze_queue(q, *memflags);
			return err;
		}
	}
	return 0;
}

int tmem_disk_refit(struct gendisk *disk, const struct block_device_operations *expected,
		    const struct block_device_operations *fops, void **slot, void *value,
		    const struct tmem_span *spans, unsigned int count, unsigned int ms)
{
	unsigned long until = tmem_until(ms);
	struct block_device *bdev;
	unsigned int memflags;
	unsigned long i;
	int ret;

	/* First, because who has it reads partitions, and so waits for the queue. */
	while (!mutex_trylock(&disk->open_mutex)) {
		ret = tmem_gives_up(until);
		if (ret)
			return ret;
		msleep(1);
	}
	ret = tmem_freeze(disk->queue, until, &memflags);
	if (ret)
		goto unlock;
	ret = -EBUSY;
	if (disk->fops != expected)
		goto out;
	ret = 0;
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
out:
	blk_mq_unfreeze_queue(disk->queue, memflags);
unlock:
	mutex_unlock(&disk->open_mutex);
	return ret;
}

static bool tmem_is_quiet(struct gendisk *disk)
{
	struct request_queue *q = disk->queue;

	/* Nobody enters the queue of a disk that is gone. */
	return !disk_live(disk) ||
	       (!q->mq_freeze_depth && !waitqueue_active(&q->mq_freeze_wq) &&
		!blk_queue_pm_only(q));
}

int tmem_disk_await(struct gendisk *disk, unsigned int ms)
{
	unsigned long until = tmem_until(ms);
	int err;

	while (!tmem_is_quiet(disk)) {
		err = tmem_gives_up(until);
		if (err)
			return err;
		msleep(1);
	}
	return 0;
}

bool tmem_disk_wake(struct gendisk *disk)
{
#ifdef CONFIG_PM
	struct device *dev = disk->queue->dev;

	if (dev)
		return !pm_runtime_resume_and_get(dev);
#endif
	return false;
}

void tmem_disk_may_sleep(struct gendisk *disk)
{
#ifdef CONFIG_PM
	pm_runtime_put(disk->queue->dev);
#endif
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

void tmem_bio_copy_page(struct page *to, struct bio *from, unsigned int offset)
{
	struct bvec_iter iter = from->bi_iter;
	unsigned int done = 0;
	struct bio_vec bvec;

	bio_advance_iter(from, &iter, offset);
	iter.bi_size = min_t(unsigned int, iter.bi_size, PAGE_SIZE);
	__bio_for_each_segment(bvec, from, iter, iter) {
		memcpy_page(to, done, bvec.bv_page, bvec.bv_offset, bvec.bv_len);
		done += bvec.bv_len;
	}
}

void tmem_bio_each_page(struct bio *bio,
			void (*visit)(void *data, unsigned int at, unsigned long frame,
				      const void *content),
			void *data)
{
	struct bvec_iter iter;
	struct bio_vec bvec;
	unsigned int at = 0;

	bio_for_each_segment(bvec, bio, iter) {
		if (bvec.bv_len == PAGE_SIZE && !(at % PAGE_SIZE)) {
			void *content = kmap_local_page(bvec.bv_page);

			visit(data, at / PAGE_SIZE, page_to_pfn(bvec.bv_page), content);
			kunmap_local(content);
		}
		at += bvec.bv_len;
	}
}

void tmem_bio_aim(struct bio *bio, struct block_device *bdev)
{
	bio_set_dev(bio, bdev);
	bio_set_flag(bio, BIO_REMAPPED);
}
