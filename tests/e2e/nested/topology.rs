// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a kernel makes of the processors that it is shown.

use anyhow::Result;
use anyhow::ensure;
use tmem_e2e::VmOptions;

use super::guest;
use super::machine;
use super::on_host;

#[test]
fn vcpus_are_cores_of_one_package() -> Result<()> {
    on_host(&machine("topology"), |host| {
        let options = VmOptions {
            name: "topology".into(),
            cpus: 4,
            ..VmOptions::default()
        };
        let guest = guest(host, options)?;
        let told = |file: &str| {
            guest.sh(&format!(
                "busybox cat /sys/devices/system/cpu/cpu*/{file} 2>/dev/null || :"
            ))
        };
        let packages = told("topology/package_cpus_list")?;
        let threads = told("topology/core_cpus_list")?;
        // Where the host's processor tells of such a cache.
        let caches = told("cache/index3/shared_cpu_list")?;
        guest.power_off()?;
        ensure!(
            packages.lines().count() == 4 && packages.lines().all(|line| line == "0-3"),
            "packages have these CPUs: {packages:?}"
        );
        ensure!(
            threads.lines().eq(["0", "1", "2", "3"]),
            "cores have these CPUs: {threads:?}"
        );
        ensure!(
            caches.lines().all(|line| line == "0-3"),
            "caches of the third level have these CPUs: {caches:?}"
        );
        Ok(())
    })
}
