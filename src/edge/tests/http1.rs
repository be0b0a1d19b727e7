use super::setup::{Gate, listener};

#[tokio::test]
async fn a_connection_is_kept_for_many_requests() {
    let gate = Gate::start(listener());
    let mut client = gate.connect().await;
    for i in 0..5 {
        let answer = client.get(&format!("/{i}")).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(&format!("GET /{i} ")), "{answer}");
        assert!(answer.to_lowercase().contains("connection: keep-alive"), "{answer}");
        assert!(answer.contains("x-listener: web") && answer.contains("x-peer: 127.0.0.1:"), "{answer}");
    }
    client.send("GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(client.rest().await.ends_with("GET /last "));
    let old = gate.exchange(b"GET /old HTTP/1.0\r\n\r\n").await;
    assert!(old.ends_with("GET /old "), "{old}");
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    let gate = Gate::start(listener());
    let mut client = gate.connect().await;
    for _ in 0..2 {
        for byte in b"\r\nPOST /drip HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" {
            client.send([*byte]).await;
        }
        assert!(client.response().await.ends_with("POST /drip abc"));
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let gate = Gate::start(listener());
    let requests = [
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x\r\nd\r\n0\r\nT: 1\r\n\r\n",
        "GET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ];
    let stream = requests.concat();
    let expected = ["GET /1 ", "POST /2 hello", "POST /3 abcd", "GET /4 "];
    for size in [1, 7, 50, stream.len()] {
        let mut client = gate.connect().await;
        for piece in stream.as_bytes().chunks(size) {
            client.send(piece).await;
        }
        for body in expected {
            let answer = client.response().await;
            assert!(answer.ends_with(body), "in pieces of {size}: {answer}");
        }
        assert_eq!(client.rest().await, "");
    }
}

/// What is sent ahead must neither disturb the request that is being answered nor be lost, and a
/// client that closes its side after its last request still gets the answers.
#[tokio::test]
async fn what_is_sent_ahead_waits_for_its_turn() {
    let gate = Gate::start(listener());
    let mut client = gate.connect().await;
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    gate.app.entered.acquire().await.unwrap().forget();
    client.send("GET /ahead HTTP/1.1\r\nHost: a\r\n\r\n").await;
    tokio::io::AsyncWriteExt::shutdown(&mut client.0).await.unwrap();
    tokio::task::yield_now().await;
    gate.app.release.add_permits(1);
    let answers = client.rest().await;
    assert!(answers.contains("GET /slow ") && answers.ends_with("GET /ahead "), "{answers}");
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_request() {
    let gate = Gate::start(listener());
    let mut client = gate.connect().await;
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    gate.app.entered.acquire().await.unwrap().forget();
    assert_eq!(gate.open.count(), 1);
    drop(client);
    gate.edge.shut_down();
    tokio::time::timeout(super::setup::PATIENCE, gate.open.drained()).await.expect("the request should end");
}

#[tokio::test]
async fn the_head_of_a_pipelined_request_is_checked_like_the_first() {
    let gate = Gate::start(listener());
    let answers = gate
        .exchange(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        .await;
    assert!(answers.contains("GET /1 "), "{answers}");
    assert!(answers.contains("HTTP/1.1 400") && answers.contains("more than one Host"), "{answers}");
}

#[tokio::test]
async fn heads_that_are_not_fit_are_refused_in_our_words() {
    let gate = Gate::start(listener());
    for (request, status, reason) in [
        ("GET / HTTP/1.1\r\n\r\n", 400, "no Host header"),
        ("GET / HTTP/1.1\nHost: a\n\n", 400, "bare LF"),
        ("\u{16}\u{3}\u{1}\u{2}", 400, "malformed request line"),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505, "version"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 405, "method"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "both",
        ),
    ] {
        let answer = gate.exchange(request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
        assert!(answer.contains(reason) && answer.contains("on web]"), "{request:?}: {answer}");
    }
}

#[tokio::test]
async fn a_malformed_chunked_body_never_becomes_a_request() {
    let gate = Gate::start(listener());
    for body in ["\r\n\r\n", "5\nhello\n0\n\n", "1;\u{0}\r\nx\r\n0\r\n\r\n", "2\r\nabc\r\n0\r\n\r\n"] {
        let request = format!("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        // at once, and with the body in a packet of its own
        let answer = gate.exchange(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{body:?}: {answer}");
        let mut client = gate.connect().await;
        let (head, body) = request.split_at(request.len() - body.len());
        client.send(head).await;
        tokio::task::yield_now().await;
        client.send(body).await;
        let answer = client.rest().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{body:?}: {answer}");
    }
}

#[tokio::test]
async fn expect_100_continue_is_answered_when_the_body_is_wanted() {
    let gate = Gate::start(listener());
    let mut client = gate.connect().await;
    let head = |path| {
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    };
    for _ in 0..2 {
        client.send(head("/e")).await;
        assert!(client.response().await.starts_with("HTTP/1.1 100"));
        client.send("ok").await;
        assert!(client.response().await.ends_with("POST /e ok"));
    }
    // it did not wait
    client.send(head("/e") + "ok").await;
    assert!(client.response().await.ends_with("POST /e ok"));
    // answered without it
    client.send(head("/early")).await;
    assert!(client.response().await.starts_with("HTTP/1.1 200"));
}

/// The answer must reach a client that is still sending, though nobody reads the rest.
#[tokio::test]
async fn an_answer_before_the_body_is_not_lost() {
    let gate = Gate::start(listener());
    for _ in 0..20 {
        let mut client = gate.connect().await;
        client.send("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n").await;
        client.send(vec![b'x'; 60_000]).await;
        let answer = client.response().await;
        assert!(answer.contains("connection: close") || answer.contains("Connection: close"), "{answer}");
        assert!(answer.ends_with("POST /early "), "{answer}");
    }
}

#[tokio::test]
async fn long_answers_and_bodies_pass_unharmed() {
    let gate = Gate::start(listener());
    let mut client = gate.connect().await;
    let body = "0123456789".repeat(50_000);
    for _ in 0..2 {
        client
            .send(format!("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
            .await;
        assert!(client.response().await.ends_with(&body));
        assert!(client.get("/big").await.len() > 3_000_000);
    }
}
