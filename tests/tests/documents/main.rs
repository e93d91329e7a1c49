#[test]
fn stub() {
    use clap::Parser as _;
    assert!(dfw_agent::cli::Cli::try_parse_from(["dfw", "ls"]).is_ok());
    let _ = dfw_common::reason::REASONS;
}
