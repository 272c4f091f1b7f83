// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Against files that stand for the kernel's.

use std::fs;

use rustix::io::Errno;
use tempfile::TempDir;

use super::*;
use crate::cli::Pressure;
use crate::testing::Fake;
use crate::uapi::GivenBack;

/// Files that are there before anybody writes to them: the kernel makes the others
/// as numbers are written.
const FILES: [(&str, &str); 6] = [
    ("proc/iomem", "00100000-0fffffff : System RAM\n"),
    (
        "proc/pressure/memory",
        "some avg10=0.25 avg60=0.10 avg300=0.00 total=99\n",
    ),
    (
        "sys/module/page_reporting/parameters/page_reporting_order",
        "-1\n",
    ),
    ("sys/module/damon_stat/parameters/enabled", "Y\n"),
    ("sys/module/damon_reclaim/parameters/enabled", "N\n"),
    ("sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds", "0\n"),
];

const SCHEME: &str = "sys/kernel/mm/damon/admin/kdamonds/0/contexts/0/schemes/0";

struct Rig {
    dir: TempDir,
    places: Places,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (file, text) in FILES {
            fs::create_dir_all(at(file).parent().unwrap()).unwrap();
            fs::write(at(file), text).unwrap();
        }
        let context = "sys/kernel/mm/damon/admin/kdamonds/0/contexts/0";
        for below in [
            "targets/0/regions/0",
            "monitoring_attrs/intervals",
            "monitoring_attrs/nr_regions",
            "schemes/0/access_pattern/sz",
            "schemes/0/access_pattern/nr_accesses",
            "schemes/0/access_pattern/age",
            "schemes/0/quotas/weights",
            "schemes/0/quotas/goals/0",
            "schemes/0/watermarks",
            "schemes/0/stats",
        ] {
            fs::create_dir_all(at(context).join(below)).unwrap();
        }
        fs::create_dir(at("run")).unwrap();
        let places = Places {
            sys: at("sys"),
            proc: at("proc"),
            run: at("run"),
        };
        Self { dir, places }
    }

    fn read(&self, file: &str) -> String {
        let text = fs::read_to_string(self.dir.path().join(file)).unwrap();
        text.trim().into()
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.dir.path().join(file), text).unwrap();
    }

    fn on(&self, module: &Fake, options: &GiveBackOn) -> Result<String> {
        let mut out = Vec::new();
        on(module, &self.places, options, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn show(&self, module: &Fake, json: bool) -> String {
        let mut out = Vec::new();
        let options = crate::cli::GiveBackStatus { json };
        status::show(module, &self.places, &options, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }
}

fn options() -> GiveBackOn {
    GiveBackOn {
        free_only: false,
        cold: 20,
        pressure: Pressure(5000),
        rate: 32 << 20,
        cpu: 25,
        order: Some(3),
        delay: None,
    }
}

#[test]
fn cold_memory_is_moved_out_within_a_goal_and_all_is_put_back() {
    let rig = Rig::new();
    let module = Fake::default();
    let said = rig.on(&module, &options()).unwrap();
    assert!(said.contains("less than 0.5 % of the time"), "{said}");
    assert_eq!(module.given_back().unwrap().is_on, 1);
    assert_eq!(rig.read(FILES[2].0), "3");
    for (file, value) in [
        ("action", "pageout"),
        ("access_pattern/age/min", "20"),
        ("quotas/bytes", "33554432"),
        ("quotas/ms", "250"),
        ("quotas/goals/0/target_metric", "some_mem_psi_us"),
        ("quotas/goals/0/target_value", "5000"),
    ] {
        assert_eq!(rig.read(&format!("{SCHEME}/{file}")), value, "{file}");
    }
    let kdamond = "sys/kernel/mm/damon/admin/kdamonds";
    assert_eq!(rig.read(&format!("{kdamond}/0/state")), "on");
    assert_eq!(
        rig.read(&format!("{kdamond}/0/contexts/0/targets/0/regions/0/end")),
        (256u64 << 20).to_string()
    );
    assert_eq!(rig.read("sys/module/damon_stat/parameters/enabled"), "N");

    // Kernels that can adjust at once, and count only what is moved, are told to.
    rig.write(&format!("{SCHEME}/quotas/goal_tuner"), "consist\n");
    rig.write(&format!("{SCHEME}/quotas/fail_charge_num"), "0\n");
    rig.write(&format!("{SCHEME}/quotas/fail_charge_denom"), "0\n");

    // Other settings, which do not forget whom to resume.
    rig.on(
        &module,
        &GiveBackOn {
            cold: 60,
            ..options()
        },
    )
    .unwrap();
    assert_eq!(rig.read(&format!("{SCHEME}/access_pattern/age/min")), "60");
    assert_eq!(rig.read(&format!("{SCHEME}/quotas/goal_tuner")), "temporal");
    let charged =
        ["num", "denom"].map(|part| rig.read(&format!("{SCHEME}/quotas/fail_charge_{part}")));
    assert_eq!(charged, ["1", "1024"]);

    off(&module, &rig.places, &mut Vec::new()).unwrap();
    assert_eq!(module.given_back().unwrap().is_on, 0);
    assert_eq!(rig.read(&format!("{kdamond}/nr_kdamonds")), "0");
    assert_eq!(rig.read("sys/module/damon_stat/parameters/enabled"), "Y");
    // Ending what has ended is fine.
    off(&module, &rig.places, &mut Vec::new()).unwrap();
}

#[test]
fn those_who_use_damon_are_left_alone() {
    let rig = Rig::new();
    rig.write("sys/module/damon_reclaim/parameters/enabled", "Y\n");
    let module = Fake::default();
    let error = rig.on(&module, &options()).unwrap_err();
    assert!(
        format!("{error:#}").contains("damon_reclaim runs"),
        "{error:#}"
    );
    assert_eq!(rig.read("sys/module/damon_stat/parameters/enabled"), "Y");

    let rig = Rig::new();
    rig.write(FILES[5].0, "1\n");
    let error = rig.on(&module, &options()).unwrap_err();
    assert!(format!("{error:#}").contains("somebody else"), "{error:#}");
    assert_eq!(rig.read(FILES[5].0), "1");
    // Free memory goes back all the same.
    assert_eq!(module.given_back().unwrap().is_on, 1);
    let free_only = GiveBackOn {
        free_only: true,
        ..options()
    };
    rig.on(&module, &free_only).unwrap();
    assert_eq!(rig.read(FILES[5].0), "1");
}

#[test]
fn a_balloon_is_named() {
    let rig = Rig::new();
    let module = Fake::default();
    module.refuse_to_give(Errno::BUSY);
    let error = rig.on(&module, &options()).unwrap_err().to_string();
    assert!(error.contains("virtio_balloon"), "{error}");
    assert_eq!(rig.read("sys/module/damon_stat/parameters/enabled"), "Y");
}

#[test]
fn the_status_tells_of_memory_and_pressure() {
    let rig = Rig::new();
    let module = Fake::default();
    assert!(rig.show(&module, false).contains("is kept"));
    rig.on(&module, &options()).unwrap();
    module.gave(GivenBack {
        is_on: 1,
        given_bytes: 100 << 20,
        refused_bytes: 1 << 20,
        memory_bytes: 256 << 20,
        backed_bytes: 200 << 20,
        ..GivenBack::default()
    });
    rig.write(&format!("{SCHEME}/stats/sz_tried"), "20971520\n");
    rig.write(&format!("{SCHEME}/stats/sz_applied"), "10485760\n");
    rig.write(&format!("{SCHEME}/quotas/effective_bytes"), "4096\n");
    // The kernel's stays as it is when commands are written to it.
    let state = "sys/kernel/mm/damon/admin/kdamonds/0/state";
    rig.write(state, "on\n");
    let text = rig.show(&module, false);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "free memory  is given back: 100 MiB so far",
            "refused      1 MiB, which the host cannot take",
            "host         backs 200 MiB of 256 MiB",
            "taken again  at most 44 MiB",
            "cold memory  not used for 20 s; moved out 10 MiB of 20 MiB found, now up to 4 KiB a second",
            "pressure     0.25 % of 10 s, 0.10 % of 60 s; goal 0.5 %",
        ]
    );
    rig.write(state, "on\n");
    let json: serde_json::Value = serde_json::from_str(&rig.show(&module, true)).unwrap();
    assert_eq!(json["given_bytes"], 100 << 20);
    assert_eq!(json["cold"]["moved_bytes"], 10 << 20);
    assert_eq!(json["pressure"]["total_us"], 99);
    // DAMON may be ended by others.
    rig.write(state, "off\n");
    assert!(rig.show(&module, false).contains("DAMON has stopped"));
}
