//! Every command explains itself.

use crate::drover::drover;

/// The names below `Commands:` in a help text.
fn commands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|l| *l != "Commands:").skip(1);
    let listed = listed.take_while(|l| !l.is_empty());
    // A name stands two spaces in; longer indents go on with a description.
    let names = listed.filter_map(|l| l.strip_prefix("  ").filter(|l| !l.starts_with(' ')));
    let names = names.filter_map(|l| l.split_whitespace().next());
    names.filter(|n| *n != "help").map(str::to_owned).collect()
}

#[test]
fn every_command_has_help() {
    let mut seen = 0;
    let mut open = vec![Vec::new()];
    while let Some(path) = open.pop() {
        let mut args: Vec<String> = path.clone();
        args.push("--help".into());
        let help = drover(&args).ok();
        assert!(help.contains("Usage: drover"), "{args:?}: {help}");
        for name in commands(&help) {
            let mut deeper = path.clone();
            deeper.push(name);
            open.push(deeper);
        }
        seen += 1;
    }
    assert!(seen > 30, "only {seen} commands were found");
}

#[test]
fn nonsense_is_a_usage_error() {
    for args in [&["no-such-command"][..], &["bundle", "sign", "x"], &[]] {
        let run = drover(args);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{args:?}");
        assert!(run.err.contains("Usage"), "{}", run.err);
    }
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = drover(["completions", shell]).ok();
        assert!(script.contains("inspect"), "{shell}");
    }
}
