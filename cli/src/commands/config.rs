use std::process::ExitCode;

use crate::{Global, output};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show every setting of every queue, and where it was made
    Explain,
}

pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let Command::Explain = args.command;
    let config = global.configuration()?;
    match global.output {
        output::Form::Json => {
            for setting in config.settings() {
                output::json(setting)?;
            }
        }
        output::Form::Human => {
            output::line(format_args!(
                "profile: {}",
                config.profile().unwrap_or("none")
            ))?;
            let rows: Vec<_> = config
                .settings()
                .iter()
                .cloned()
                .map(|setting| [setting.queue, setting.option, setting.value, setting.source])
                .collect();
            output::table(["QUEUE", "OPTION", "VALUE", "FROM"], &rows)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
