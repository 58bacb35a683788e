"""The gRPC front: ``volume_server_pb.VolumeServer`` in front of workers and supervisor (docs/spec/grpc.md)."""

__all__: list[str] = []
