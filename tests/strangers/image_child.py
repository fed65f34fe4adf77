"""Sends files through one way in, in a process of its own, and prints what came of each and how much memory rose.

Arguments: the way in, the export's base path, a folder of ordinary images, a folder of hostile ones.
"""

import json
import sys
from pathlib import Path

from ae_search.errors import ImageError


def rise_mib(work):
    """Run something; return its answer, and by how much the largest resident set rose above that of before."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    before = _status_kib("VmRSS")
    return work(), (_status_kib("VmHWM") - before) / 1024


def _status_kib(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def refusals(send, files):
    """Return the error of each file by name, None where it was taken."""
    found = {}
    for file in files:
        try:
            send(file)
            found[file.name] = None
        except ImageError as error:
            found[file.name] = str(error)
    return found


def through_the_server(export, ordinary, hostile):
    """Send each file with the official stubs, as a client of another maker would."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    from ae_search.model_server import ModelServer

    with ModelServer(export) as server, grpc.insecure_channel(server.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def send(file):
            request = predict_pb2.PredictRequest()
            request.model_spec.name = server.model_name
            request.model_spec.signature_name = "encode_bytes"
            request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([file.read_bytes()]))
            try:
                stub.Predict(request, timeout=300)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                    raise
                raise ImageError(error.details()) from error

        refusals(send, ordinary)
        return rise_mib(lambda: refusals(send, hostile))


def through_the_local_encoder(export, ordinary, hostile):
    from ae_search.model_server.local import LocalEncoder

    encoder = LocalEncoder(export)
    encoder.encode_files(ordinary)

    def work():
        found = {}
        encoder.encode_files(
            [*hostile, *ordinary], on_bad=lambda at, error: found.update({hostile[at].name: str(error)})
        )
        return found

    return rise_mib(work)


def through_training(export, ordinary, hostile):
    from ae_search.data.pipeline import first_images, readable_images
    from ae_search.data.sources import FolderSource, open_source

    first_images(open_source(str(ordinary[0].parent)), (16, 16, 3), 4)
    files = [file.relative_to(hostile[0].parent.parent).as_posix() for file in [*ordinary, *hostile]]
    source = FolderSource("mixed", hostile[0].parent.parent, sorted(files), [None] * len(files))
    images, rise = rise_mib(lambda: readable_images(source, (16, 16, 3)))
    assert len(images) == len(ordinary)
    return {Path(key).name: reason for key, reason in images.damaged.items()}, rise


def through_pixels(export, ordinary, hostile):
    from ae_search.image_file import image_pixels

    refusals(lambda file: image_pixels(file.read_bytes(), file.name, (16, 16, 3)), ordinary)
    return rise_mib(lambda: refusals(lambda file: image_pixels(file.read_bytes(), file.name, (16, 16, 3)), hostile))


def through_thumbnails(export, ordinary, hostile):
    from ae_search.image_file import thumbnail

    refusals(lambda file: thumbnail(file.read_bytes(), file.name), ordinary)
    return rise_mib(lambda: refusals(lambda file: thumbnail(file.read_bytes(), file.name), hostile))


def through_an_index(export, ordinary, hostile):
    """Show files as thumbnails that an index holds."""
    from ae_search.plots import picture_of

    def show(file):
        if picture_of(file.read_bytes(), "title").pixels is None:
            raise ImageError("an empty cell")

    refusals(show, ordinary)
    return rise_mib(lambda: refusals(show, hostile))


WAYS = {
    "server": through_the_server,
    "local encoder": through_the_local_encoder,
    "training": through_training,
    "pixels": through_pixels,
    "thumbnails": through_thumbnails,
    "index": through_an_index,
}

if __name__ == "__main__":
    way, export, *folders = sys.argv[1:]
    files = [sorted(Path(folder).iterdir()) for folder in folders]
    found, rise = WAYS[way](export, *files)
    print(json.dumps({"found": found, "rise_mib": rise}))
