"""A structured-concurrency WebSocket application server for Trio."""
