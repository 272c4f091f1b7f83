/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Calls from Rust to what C headers define inline, and a few loops that are
 * macros in C. Each does what its name says and nothing else.
 */
#ifndef TMEM_SHIM_H
#define TMEM_SHIM_H

#include <linux/blkdev.h>
#include <linux/scatterlist.h>
#include <linux/spinlock.h>
#include <linux/virtio.h>
#include <linux/workqueue.h>

unsigned long tmem_spin_lock_irqsave(spinlock_t *lock);
bool tmem_spin_trylock_irqsave(spinlock_t *lock, unsigned long *flags);
void tmem_spin_unlock_irqrestore(spinlock_t *lock, unsigned long flags);

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

void tmem_unplug(struct blk_plug_cb *cb);
bool tmem_may_wait_for_reclaim(void);
struct workqueue_struct *tmem_alloc_workqueue(bool freezable);
unsigned int tmem_disk_openers(struct gendisk *disk);

#endif
