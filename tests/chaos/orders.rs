//! What a server is told to do, as it stands in its folder. Written by `victim`, read by `server`.

/// How a server behaves until it is told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As it should.
    Serve,
    /// Accepts connections and closes them.
    Close,
    /// Carries requests out and breaks off within the head of the answer.
    HalfHead,
    /// Carries requests out, sends half a head and no more.
    HangInHead,
    /// Carries requests out and answers what is not HTTP.
    Babble,
    /// Carries requests out and answers 500.
    Fail,
    /// Nothing that is sent to it arrives, and nothing tells the sender: its packets are dropped.
    Vanish,
    /// Ends its connections, and shows a certificate that nobody trusts to whoever comes. Over TLS only.
    Untrusted,
    /// Ends its connections, and lets whoever comes wait for the handshake. Over TLS only.
    Stall,
    /// Sends half of each answer's body, then closes.
    CutAndClose,
    /// Sends half of each answer's body, then resets the connection.
    CutAndReset,
    /// Sends half of each answer's body and no more.
    CutAndHang,
}

impl Order {
    const ALL: [Order; 12] = [
        Order::Serve,
        Order::Close,
        Order::HalfHead,
        Order::HangInHead,
        Order::Babble,
        Order::Fail,
        Order::Vanish,
        Order::Untrusted,
        Order::Stall,
        Order::CutAndClose,
        Order::CutAndReset,
        Order::CutAndHang,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Order::Serve => "serve",
            Order::Close => "close",
            Order::HalfHead => "half-head",
            Order::HangInHead => "hang-in-head",
            Order::Babble => "babble",
            Order::Fail => "fail",
            Order::Vanish => "vanish",
            Order::Untrusted => "untrusted",
            Order::Stall => "stall",
            Order::CutAndClose => "cut-and-close",
            Order::CutAndReset => "cut-and-reset",
            Order::CutAndHang => "cut-and-hang",
        }
    }

    pub fn from_word(word: &str) -> Option<Order> {
        Order::ALL.into_iter().find(|order| order.word() == word)
    }
}

/// The files of a server's folder.
pub mod files {
    /// Its label and the address to listen on, port 0 for any.
    pub const IDENTITY: &str = "identity";
    /// The address it listens on, once it does.
    pub const LISTENING: &str = "listening";
    /// Its certificate and key, if it speaks TLS.
    pub const CERTIFICATE: &str = "server.crt";
    pub const KEY: &str = "server.key";
    /// The order.
    pub const ORDER: &str = "order";
    /// The order that it follows.
    pub const FOLLOWED: &str = "followed";
    /// A line `METHOD ID` for each request that has arrived whole and is being carried out.
    pub const DONE: &str = "done";
}
