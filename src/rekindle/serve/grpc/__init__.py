"""The gRPC face of the server: `inference.GRPCInferenceService` and `grpc.health.v1.Health`."""
