// SPDX-License-Identifier: GPL-2.0

//! Bindings that Kbuild makes with bindgen, beside those of the kernel crate. Bindgen has few of the
//! kernel's flags, so every type that the module uses by more than its pointer is compared with
//! what the kernel's compiler makes of it.

// Which of these apply depends on the kernel's version, so they are not expected.
#![allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    reason = "generated code"
)]

include!("bindings_generated.rs");

/// Fails to compile unless bindgen sees a type as the kernel's compiler does.
macro_rules! same_layout {
    ($type:ident, $size:ident, $($field:ident: $offset:ident),+ $(,)?) => {
        const _: () = {
            assert!(size_of::<$type>() == $size as usize);
            $(assert!(core::mem::offset_of!($type, $field) == $offset as usize);)+
        };
    };
}

same_layout!(
    virtio_driver,
    TMEM_SIZE_virtio_driver,
    driver: TMEM_OFFSET_virtio_driver_driver,
    id_table: TMEM_OFFSET_virtio_driver_id_table,
    probe: TMEM_OFFSET_virtio_driver_probe,
    remove: TMEM_OFFSET_virtio_driver_remove,
    config_changed: TMEM_OFFSET_virtio_driver_config_changed,
    freeze: TMEM_OFFSET_virtio_driver_freeze,
    restore: TMEM_OFFSET_virtio_driver_restore,
    reset_prepare: TMEM_OFFSET_virtio_driver_reset_prepare,
    reset_done: TMEM_OFFSET_virtio_driver_reset_done,
);
same_layout!(
    virtio_device_id,
    TMEM_SIZE_virtio_device_id,
    device: TMEM_OFFSET_virtio_device_id_device,
    vendor: TMEM_OFFSET_virtio_device_id_vendor,
);
same_layout!(
    virtqueue,
    TMEM_SIZE_virtqueue,
    vdev: TMEM_OFFSET_virtqueue_vdev,
    index: TMEM_OFFSET_virtqueue_index,
);
same_layout!(
    page_reporting_dev_info,
    TMEM_SIZE_page_reporting_dev_info,
    report: TMEM_OFFSET_page_reporting_dev_info_report,
    order: TMEM_OFFSET_page_reporting_dev_info_order,
);
same_layout!(
    tmem_span,
    TMEM_SIZE_tmem_span,
    from: TMEM_OFFSET_tmem_span_from,
    to: TMEM_OFFSET_tmem_span_to,
);
same_layout!(
    tmem_evictions,
    TMEM_SIZE_tmem_evictions,
    most: TMEM_OFFSET_tmem_evictions_most,
    evicted: TMEM_OFFSET_tmem_evictions_evicted,
    data: TMEM_OFFSET_tmem_evictions_data,
);

const _: () = assert!(TMEM_GFP_NOIO as u64 == TMEM_VALUE_GFP_NOIO as u64);
