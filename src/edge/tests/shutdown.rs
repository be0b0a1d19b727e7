use super::setup::{Gate, PATIENCE, listener};

/// Idle connections are closed, the one with a request gets its answer, a new one is not accepted.
#[tokio::test]
async fn shutdown_drains_and_then_ends() {
    let gate = Gate::start(listener());
    let mut idle = gate.connect().await;
    assert!(idle.get("/").await.starts_with("HTTP/1.1 200"));
    let mut busy = gate.connect().await;
    busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    gate.app.entered.acquire().await.unwrap().forget();
    let mut queued = gate.connect().await;
    queued.send("GET /queued HTTP/1.1\r\nHost: a\r\n\r\n").await;

    gate.edge.shut_down();
    assert_eq!(idle.rest().await, "");
    let answer = queued.rest().await;
    assert!(answer.contains("onnection: close") && answer.ends_with("GET /queued "), "{answer}");
    assert!(!gate.worker.is_finished());
    gate.app.release.add_permits(1);
    assert!(busy.rest().await.ends_with("GET /slow "));
    tokio::time::timeout(PATIENCE, gate.worker).await.expect("drained").unwrap();
    assert_eq!(gate.open.count(), 0);
    assert!(tokio::net::TcpStream::connect(gate.address).await.is_err());
}

#[tokio::test]
async fn a_head_that_has_begun_may_be_finished_after_the_shutdown() {
    let gate = Gate::start(listener());
    let mut client = gate.connect().await;
    assert!(client.get("/1").await.ends_with("/1 "));
    client.send("GET /2 HT").await;
    // until the gate has read it
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    gate.edge.shut_down();
    tokio::task::yield_now().await;
    client.send("TP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(client.rest().await.ends_with("GET /2 "));
    tokio::time::timeout(PATIENCE, gate.worker).await.expect("drained").unwrap();
}
