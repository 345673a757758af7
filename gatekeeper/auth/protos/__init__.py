"""Messages of gRPC services that we ask: the definitions, and the classes made of them."""
