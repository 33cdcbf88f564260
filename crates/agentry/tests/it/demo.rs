//! The demo: everything at once, as a stranger's first command.

use crate::support::json;

#[test]
fn the_demo_does_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let said = json(folder.path(), &["demo", "-o", "json"]);
    assert_eq!(said["ok"], true, "{said}");
    let mut modes: Vec<&str> =
        said["tasks"].as_array().unwrap().iter().map(|task| task["mode"].as_str().unwrap()).collect();
    modes.sort_unstable();
    assert_eq!(modes, ["autonomous", "collaborative", "continuous", "scheduled"]);
    assert!(said["tasks"].as_array().unwrap().iter().all(|task| task["status"] == "completed"), "{said}");
    assert!(said["schedule"]["slots"].as_u64().unwrap() >= 2, "{said}");
    assert_eq!(said["clarification"]["answer"], "EU");
    assert_eq!(said["crash"]["accepted"], said["crash"]["ended_once"]);
    assert_eq!(said["crash"]["calls_bought_twice"], 0);
    assert!(said["slack"].is_null());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the demo leaves nothing behind");
}
