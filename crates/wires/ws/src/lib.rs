//! WebSocket (RFC 6455, RFC 7692): a framing that carries another protocol.
