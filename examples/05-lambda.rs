//! The same handler in AWS Lambda, on the messages of an SQS queue.
//!
//! Built with [cargo-lambda](https://www.cargo-lambda.info): `cargo lambda build -p examples --bin lambda`.
//! The event source mapping needs `FunctionResponseTypes: [ReportBatchItemFailures]`.
#![allow(clippy::print_stdout)]

use towpath::{Attempt, Failure, lambda::SqsFunction};

async fn handle(attempt: Attempt) -> Result<(), Failure> {
    let order: u64 = attempt.json()?;
    if order == 0 {
        return Err(Failure::retry("order 0 is not ready"));
    }
    println!("order {order}");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), towpath::lambda::Error> {
    SqsFunction::new(handle).run().await
}
