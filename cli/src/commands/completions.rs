use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: &Args, mut command: clap::Command) -> anyhow::Result<ExitCode> {
    clap_complete::generate(args.shell, &mut command, "towpath", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
