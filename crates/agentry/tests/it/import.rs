//! `import`: what is printed, what is written, and how it ends.

use crate::support::{agentry, run};

const OLD: &str = "name: old\nexecution_mode: autonomous\nllm_config:\n  provider: aws_bedrock  # Frankfurt\n  \
    model_id: claude\n  aws_region: eu-central-1\nsystem_prompt: You help.\n";

#[test]
fn an_older_file_is_rewritten_and_every_change_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("old.yml"), OLD).unwrap();
    insta::assert_snapshot!(run(folder.path(), &["import", "old.yml"]));
    assert!(agentry(folder.path()).args(["import", "--write", "old.yml"]).output().unwrap().status.success());
    insta::assert_snapshot!("imported_again", run(folder.path(), &["import", "old.yml"]));
}

#[test]
fn unknown_keys_keep_a_file_from_being_changed() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{OLD}agent_kind: x\n");
    std::fs::write(folder.path().join("old.yml"), &text).unwrap();
    insta::assert_snapshot!(run(folder.path(), &["import", "--write", "old.yml"]));
    assert_eq!(std::fs::read_to_string(folder.path().join("old.yml")).unwrap(), text);
}

#[test]
fn many_files_go_to_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        std::fs::write(folder.path().join(format!("{name}.yml")), OLD.replace("old", name)).unwrap();
    }
    insta::assert_snapshot!("import_without_folder", run(folder.path(), &["import", "a.yml", "b.yml", "-o", "new"]));
    std::fs::create_dir(folder.path().join("new")).unwrap();
    let output = agentry(folder.path()).args(["import", "a.yml", "b.yml", "-o", "new"]).output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty());
    assert!(
        std::fs::read_to_string(folder.path().join("new/b.yml")).unwrap().contains("provider: bedrock  # Frankfurt")
    );
    assert!(std::fs::read_to_string(folder.path().join("b.yml")).unwrap().contains("aws_bedrock"));
}
