//! One message, sent and received: `cargo run -p examples --bin hello`
#![allow(clippy::print_stdout)]

use std::time::Duration;

use towpath::Message;

#[tokio::main]
async fn main() -> towpath::Result<()> {
    let queue = towpath::open("memory://hello")?;
    let (producer, consumer) = (queue.producer().await?, queue.consumer().await?);

    let message = Message::new("hello, canal").with_attribute("from", "the towpath");
    producer.send(message).await?;

    // The first time it is not convenient: it comes again, a second later at the earliest.
    let delivery = consumer.receive().await?;
    println!("attempt {:?}: not now", delivery.attempt());
    delivery.nack(Duration::from_secs(1)).await?;

    let delivery = consumer.receive().await?;
    let text = String::from_utf8_lossy(delivery.body()).into_owned();
    let from = delivery
        .attributes()
        .get("from")
        .unwrap_or("nobody")
        .to_owned();
    println!("attempt {:?}: {text:?} from {from}", delivery.attempt());
    delivery.ack().await?;
    Ok(())
}
