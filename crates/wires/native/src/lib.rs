//! The native protocol: protobuf on TCP and WebSocket, JSON on WebSocket.
