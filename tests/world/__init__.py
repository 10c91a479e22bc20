"""The real parts that the demo and the end-to-end tests stand on: processes, keys, servers, clients."""
