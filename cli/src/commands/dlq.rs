use std::process::ExitCode;

use crate::Global;

mod difference;
mod discard;
mod edit;
mod look;
mod redrive;
mod selection;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List dead letters with their reasons; they stay where they are
    List(look::ListArgs),
    /// Show one dead letter in full
    Show(look::ShowArgs),
    /// Send dead letters back to the queue that they failed in, or to another
    ///
    /// Each one is sent first and removed then. Wherever this is stopped, none is lost: the rest
    /// stays in the dead-letter queue, and the same command goes on with it.
    Redrive(redrive::Args),
    /// Correct the body or the attributes of one dead letter and send it back
    ///
    /// Without --body, --set-attribute and --remove-attribute, the body opens in $VISUAL or
    /// $EDITOR. The difference is shown before anything is sent. The edited copy keeps its
    /// idempotency key, and its failure record counts the edit. The dead letter is removed only
    /// after the copy was accepted.
    Edit(edit::Args),
    /// Remove dead letters for good
    Discard(discard::Args),
}

pub(crate) async fn run(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List(args) => look::list(global, &args).await,
        Command::Show(args) => look::show(global, &args).await,
        Command::Redrive(args) => redrive::run(global, args).await,
        Command::Edit(args) => edit::run(global, args).await,
        Command::Discard(args) => discard::run(global, &args).await,
    }
}
