//! Several servers of one service, on a Redis of their own.

use crate::{Redis, Request, Response, SYNCED, Server, Setup, until};

/// Nodes that share a Redis; dropping it kills all.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, in the order of their names.
    pub nodes: Vec<Server>,
    /// The Redis that orders their log.
    pub redis: Redis,
}

impl Cluster {
    /// Three nodes on a Redis that syncs each write.
    #[must_use]
    pub fn start() -> Self {
        Self::with("")
    }

    /// Three nodes on a Redis that syncs each write, with this configuration on each node. Each knows the others.
    #[must_use]
    pub fn with(config: &str) -> Self {
        let redis = Redis::with(SYNCED);
        let nodes = ["a", "b", "c"].map(|name| Setup::node(&redis.url(), name).config(config).start());
        until("each node knows the others", || nodes.iter().all(|node| node.metric("everywire_nodes") >= 3.0));
        Self { nodes: nodes.into(), redis }
    }

    /// Ends a node as a power cut would, and returns the setup that starts it again.
    pub fn kill(&mut self, node: usize) -> Setup {
        self.nodes.remove(node).kill()
    }

    /// Publishes at a node, with a key, until it takes the message. It may answer 503 before, but nothing else.
    ///
    /// # Panics
    /// When it answers anything else, or doesn't take the message for long.
    pub fn publish_until_taken(&self, node: usize, topic: &str, body: &str) -> Response {
        let request = Request::post(&format!("/v1/messages?topic={topic}"), body).header("Idempotency-Key", body);
        let mut taken = None;
        until("it is taken", || {
            let response = self.nodes[node].send(&request);
            assert!(matches!(response.status, 200 | 503), "{response:?}");
            taken = (response.status == 200).then_some(response);
            taken.is_some()
        });
        taken.expect("taken")
    }
}

impl Setup {
    /// The setup of a node with this name, on this engine.
    #[must_use]
    pub fn node(engine: &str, name: &str) -> Self {
        ["--engine", engine, "--node", name].into_iter().fold(Self::new(), Setup::argument)
    }
}
