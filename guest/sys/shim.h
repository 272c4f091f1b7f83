/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Calls from Rust to what C headers define inline, and a few loops that are
 * macros in C. Each does what its name says and nothing else.
 */
#ifndef TMEM_SHIM_H
#define TMEM_SHIM_H

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/page_reporting.h>
#include <linux/scatterlist.h>
#include <linux/spinlock.h>
#include <linux/virtio.h>
#include <linux/workqueue.h>

/*
 * Interrupts are disabled from the first lock that the CPU takes to the last that
 * it lets go of, in whatever order.
 */
void tmem_spin_lock_irq_disable(spinlock_t *lock);
bool tmem_spin_trylock_irq_disable(spinlock_t *lock);
void tmem_spin_unlock_irq_enable(spinlock_t *lock);

struct virtio_driver *tmem_virtio_driver_of(struct virtio_device *vdev);
void *tmem_virtio_priv(struct virtio_device *vdev);
void tmem_virtio_set_priv(struct virtio_device *vdev, void *priv);
/* len is a multiple of 8. */
void tmem_virtio_read_config(struct virtio_device *vdev, void *to, unsigned int len);
int tmem_virtio_find_vqs(struct virtio_device *vdev, unsigned int count,
			 struct virtqueue **vqs, void (*callback)(struct virtqueue *));
void tmem_virtio_ready(struct virtio_device *vdev);
void tmem_virtio_del_vqs(struct virtio_device *vdev);
void tmem_virtio_reset(struct virtio_device *vdev);
bool tmem_virtio_needs_reset(struct virtio_device *vdev);
bool tmem_virtio_trylock(struct virtio_device *vdev);
void tmem_virtio_unlock(struct virtio_device *vdev);
void tmem_virtio_take_features(struct virtio_device *vdev);

void tmem_sg_set_page(struct scatterlist *sg, struct page *page,
		      unsigned int len, unsigned int offset);
void tmem_sg_set_buf(struct scatterlist *sg, const void *buf, unsigned int len);
void tmem_sg_mark_end(struct scatterlist *sg);

bool tmem_bio_next(struct bio *bio, struct bvec_iter *iter, struct bio_vec *out);
void tmem_bio_zero(struct bio *bio, unsigned int offset, unsigned int len);
/* Copies len bytes from offset on in the bio's memory to what is at mem, or back. */
void tmem_bio_copy(struct bio *bio, unsigned int offset, void *mem, unsigned int len, bool back);
/* Folios of the swap cache that lie in this part of the bio's memory are up to date. */
void tmem_bio_mark_read(struct bio *bio, unsigned int offset, unsigned int len);

void tmem_unplug(struct blk_plug_cb *cb);
bool tmem_may_wait_for_reclaim(void);
/* Between the two the task keeps its CPU, where it may while it takes spinlocks. */
void tmem_spin_begin(void);
void tmem_spin_end(void);
/* Waits for a moment; false when another task is to run on this CPU. */
bool tmem_spin_goes_on(void);
struct workqueue_struct *tmem_alloc_workqueue(const char *name, bool freezable);
unsigned int tmem_disk_openers(struct gendisk *disk);

/* A run of sectors, from the first to the one after the last. */
struct tmem_span {
	sector_t from;
	sector_t to;
};

struct file *tmem_bdev_open(unsigned int major, unsigned int minor);
void tmem_bdev_close(struct file *file);
/*
 * Copies what the page cache has of a block device, from pos on, which must lie in one page. Says
 * whether it has that. Does not wait for the device. In process context.
 */
bool tmem_bdev_cached(struct file *file, loff_t pos, void *to, size_t len);
/* Has the page cache read what is at pos from a block device, and waits for it. */
int tmem_bdev_load(struct file *file, loff_t pos);
/* Those who have it open. */
int tmem_bdev_openers(struct block_device *bdev);
bool tmem_bdev_read_only(struct block_device *bdev);
/* Why a block device whose disk has no hook can't have a filter; NULL if it can. */
const char *tmem_bdev_unsuitable(struct block_device *bdev);
/* Whether writes to a disk that is not blk-mq are under way. */
bool tmem_disk_has_writes(struct gendisk *disk);
/* A private copy, to submit to in the place of bdev; without submit_bio when it is for blk-mq. */
struct block_device *tmem_bdev_shadow(struct block_device *bdev, bool mq);

/* Keeps a disk, whose driver's module is in use, and that. */
void tmem_disk_get(struct gendisk *disk);
void tmem_disk_put(struct gendisk *disk);
bool tmem_disk_is_mq(struct gendisk *disk);
/*
 * With the disk's queue frozen: sets its operations and *slot, and has bios for its block devices
 * that touch one of the spans go through submit_bio. -EBUSY, and nothing is done, when the
 * operations are not those that are expected: somebody else has changed them. -ETIMEDOUT, and nothing
 * is done, when the disk is not free for that within ms milliseconds, if they are not 0; -EINTR when a
 * signal comes before.
 */
int tmem_disk_refit(struct gendisk *disk, const struct block_device_operations *expected,
		    const struct block_device_operations *fops, void **slot, void *value,
		    const struct tmem_span *spans, unsigned int count, unsigned int ms);
/* Waits until nobody has the disk's queue frozen or closed. The errors are those above. */
int tmem_disk_await(struct gendisk *disk, unsigned int ms);
/* Wakes a disk that sleeps to save power. Says whether it is kept awake, until it may sleep. */
bool tmem_disk_wake(struct gendisk *disk);
void tmem_disk_may_sleep(struct gendisk *disk);
/*
 * Waits until all who looked at the flags that tmem_disk_refit() sets, before it did, have entered
 * the disk's queue; then sets the operations to those given, if any. Not for a disk that is not
 * blk-mq.
 */
void tmem_disk_pass_over(struct gendisk *disk, const struct block_device_operations *fops);
/* Waits until no request of the disk is under way. */
void tmem_disk_settle(struct gendisk *disk);

/* The bio goes where its original would have gone: it is past the checks of submit_bio. */
void tmem_bio_as_checked(struct bio *clone, struct bio *original);
/* The bio is for bdev, but its sectors are those of the disk. */
void tmem_bio_aim(struct bio *bio, struct block_device *bdev);
/* Whether nothing but the bio's pages is read or written for it. */
bool tmem_bio_is_plain(struct bio *bio);
/* Whether no program can write to the bio's memory. */
bool tmem_bio_is_kernels(struct bio *bio);
/* Copies a page from offset on in the bio's memory. */
void tmem_bio_copy_page(struct page *to, struct bio *from, unsigned int offset);
/*
 * Calls visit(data, at, frame, content) for each page of the bio's memory that lies in one frame
 * and fills it, with its place in the bio, counted in pages.
 */
void tmem_bio_each_page(struct bio *bio,
			void (*visit)(void *data, unsigned int at, unsigned long frame,
				      const void *content),
			void *data);

/* What is told of evictions. */
struct tmem_evictions {
	/* Pages of a folio that are looked at. */
	unsigned int most;
	/*
	 * A page of page cache is about to be evicted: nobody has a reference to it, and it is up to
	 * date and clean. With interrupts off and the lock of its mapping held.
	 */
	void (*evicted)(void *data, unsigned long frame, const void *content, bool in_workingset);
	void *data;
};

/* -EOPNOTSUPP when the kernel does not tell. */
int tmem_evictions_register(const struct tmem_evictions *evictions);
/* Waits for those who are being told. */
void tmem_evictions_unregister(const struct tmem_evictions *evictions);
void tmem_copy_page(struct page *to, const void *from);
const void *tmem_page_address(struct page *page);
void tmem_random(void *to, size_t bytes);

/*
 * -EOPNOTSUPP without free page reporting, and when the kernel looks whether free pages have kept
 * the pattern that it fills them with.
 */
int tmem_page_reporting_register(struct page_reporting_dev_info *info, unsigned int capacity);
unsigned int tmem_page_reporting_largest_order(void);
void tmem_page_reporting_unregister(struct page_reporting_dev_info *info);
phys_addr_t tmem_sg_phys(struct scatterlist *sg);
unsigned int tmem_sg_len(struct scatterlist *sg);
struct scatterlist *tmem_sg_next(struct scatterlist *sg);

bool tmem_module_try_get(void);
/*
 * Has refuses(data, begins) called before the system hibernates, and after that or when it was
 * refused, with begins false. Once in the module's life. Ending it waits for a call that is under
 * way.
 */
int tmem_hibernation_register(bool (*refuses)(void *data, bool begins), void *data);
void tmem_hibernation_unregister(void);

/*
 * Calls relieve before the kernel kills a process because it finds no memory; it returns how many pages it
 * has freed. Once in the module's life. Ending it waits for a call that is under way.
 */
int tmem_oom_register(unsigned long (*relieve)(void *data), void *data);
void tmem_oom_unregister(void);

void tmem_module_put(void);
/* False while the module is being loaded: that may still fail. */
bool tmem_module_is_live(void);
bool tmem_signal_pending(void);
u64 tmem_memory_pages(void);
u64 tmem_available_pages(void);
bool tmem_is_confidential(void);

#endif
