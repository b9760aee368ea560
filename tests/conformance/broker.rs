//! The broker contract, run against both brokers.

use harness::rabbitmq::RabbitMq;

#[tokio::test]
async fn node() {
    let t = std::time::Instant::now();
    let mut r = RabbitMq::start().await.unwrap();
    println!("{} {:?}", r.url(), t.elapsed());
    r.kill().await.unwrap();
    r.restart().await.unwrap();
    println!("{} {:?}", r.url(), t.elapsed());
    r.stop().await.unwrap();
}
