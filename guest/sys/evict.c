// SPDX-License-Identifier: GPL-2.0
/*
 * Pages that leave the page cache: see eviction.rs.
 *
 * The kernel has a tracepoint where a folio is taken out of the page cache. It is not exported by
 * name, but all of the kernel's own can be looked through, and probes be registered with any.
 *
 * Who evicts takes the last reference to the folio before that, so that its count is 0 here: nobody
 * has it mapped, or can get at it. Who truncates or invalidates it has a reference. In the
 * first case, what is in the folio is what the filesystem has read, or has written back since; in
 * the other it may be about to change on the disk.
 */

#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/random.h>
#include <linux/string.h>
#include <linux/tracepoint.h>

#include "shim.h"

#if defined(CONFIG_TRACEPOINTS) && !defined(CONFIG_PREEMPT_RT)

static const char tmem_point_name[] = "mm_filemap_delete_from_page_cache";

static void tmem_evict_probe(void *data, struct folio *folio)
{
	const struct tmem_evictions *evictions = data;
	unsigned int i, count;
	bool in_workingset;

	if (folio_ref_count(folio) || !folio_test_uptodate(folio) || folio_test_dirty(folio) ||
	    folio_test_writeback(folio) || folio_test_swapbacked(folio) ||
	    folio_test_hugetlb(folio))
		return;
	in_workingset = folio_test_workingset(folio);
	count = min_t(unsigned long, folio_nr_pages(folio), evictions->most);
	for (i = 0; i < count; i++) {
		struct page *page = folio_page(folio, i);
		void *content;

		if (PageHWPoison(page))
			continue;
		content = kmap_local_page(page);
		evictions->evicted(evictions->data, page_to_pfn(page), content, in_workingset);
		kunmap_local(content);
	}
}

static void tmem_find_point(struct tracepoint *point, void *found)
{
	if (!strcmp(point->name, tmem_point_name))
		*(struct tracepoint **)found = point;
}

static struct tracepoint *tmem_point(void)
{
	struct tracepoint *point = NULL;

	for_each_kernel_tracepoint(tmem_find_point, &point);
	return point;
}

int tmem_evictions_register(const struct tmem_evictions *evictions)
{
	struct tracepoint *point = tmem_point();

	if (!point)
		return -EOPNOTSUPP;
	return tracepoint_probe_register(point, tmem_evict_probe, (void *)evictions);
}

void tmem_evictions_unregister(const struct tmem_evictions *evictions)
{
	struct tracepoint *point = tmem_point();

	if (point)
		tracepoint_probe_unregister(point, tmem_evict_probe, (void *)evictions);
	tracepoint_synchronize_unregister();
}

#else

/* With PREEMPT_RT, locks of this module may sleep, which a probe must not. */
int tmem_evictions_register(const struct tmem_evictions *evictions)
{
	return -EOPNOTSUPP;
}

void tmem_evictions_unregister(const struct tmem_evictions *evictions)
{
}

#endif

void tmem_copy_page(struct page *to, const void *from)
{
	memcpy_to_page(to, 0, from, PAGE_SIZE);
}

const void *tmem_page_address(struct page *page)
{
	BUILD_BUG_ON(IS_ENABLED(CONFIG_HIGHMEM));
	return page_address(page);
}

void tmem_random(void *to, size_t bytes)
{
	get_random_bytes(to, bytes);
}
