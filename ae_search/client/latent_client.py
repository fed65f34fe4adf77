"""Latents over gRPC, blocking."""

import numpy.typing as npt

from ae_search.client.model_client import EncoderClient
from ae_search.client.predict_client import PredictClient
from ae_search.contract import FileInputs, Latents, ModelCard, OnBad, Pictures


class LatentClient(EncoderClient, PredictClient):
    """Fetches latents from TensorFlow Serving, or from the embedded model server, over one gRPC channel.

    It is a `PredictClient`: its other verbs, what is sent again, and what a pickle holds, are told there.

    Args:
        target: "HOST:PORT" or a gRPC target such as "dns:///serving:8500", whose addresses take turns.
        model: Name that the server serves the model under.
        version: Version to pin; None for the newest.
        label: Label of the version to pin, in place of its number.
        access: TLS and credentials. Plain text goes to this machine only, unless `Access(insecure=True)`.
        timeout_s: Seconds allowed for each request, its repetitions included.
        total_timeout_s: Seconds allowed for a whole call, however many requests it takes; None for no such limit.
        max_in_flight: Requests of one call that are under way at once, at least 1.
        max_megapixels: Image files with more pixels are refused from their head, before they are sent. None for the
            limit of the format, which no number raises: 128 for JPEG, 64 for others, all frames of a GIF together.

    Raises:
        ConfigurationError: `target` is no gRPC target, plain text would leave this machine, a TLS file is wrong, both
            version and label are given, or there is no time allowed.

    Example:
        with LatentClient("127.0.0.1:8500", model="fashion") as client:
            latents = client.encode_files(["photo.jpg"])
    """

    def describe(self) -> ModelCard:
        """Return the model card, its version the one that answered.

        Raises:
            ServerError: The server cannot be reached, does not serve the model, or answers nonsense.
        """
        card: ModelCard = self.line.carry_out(self.talk.describe())
        return card

    def encode(self, images: npt.ArrayLike) -> Latents:
        """Return latents `[n, d]` float32, in order, all of one version.

        Args:
            images: uint8 in [0, 255] or floats in [0, 1], `[n, h, w, c]` of the model's shape, or one `[h, w, c]`.

        Raises:
            ImageError: Shape, dtype or values do not fit the model.
            ServerError: The server cannot be reached, is too slow, lacks the model, or answers nonsense.
        """
        latents: Latents = self.line.carry_out(self.talk.encode(images))
        return latents

    def encode_files(self, files: FileInputs, *, on_bad: OnBad | None = None) -> Latents:
        """Return latents `[n, d]` float32 of image files, in order, all of one version.

        A server refuses a whole request for one image that it cannot decode. The client finds it by sending the others
        again in smaller requests.

        Args:
            files: Paths, or the bytes of JPEG, PNG, GIF, BMP or WebP files.
            on_bad: Called with position and error of each file that cannot be decoded; its row is left out.

        Raises:
            ImageError: A file cannot be decoded and there is no `on_bad`.
            ServerError: As for `encode`.
        """
        latents: Latents = self.line.carry_out(self.talk.encode_files(files, on_bad))
        return latents

    def decode(self, latents: npt.ArrayLike) -> Pictures:
        """Return what the model's decoder makes of latents: float32 `[n, h, w, c]` in [0, 1], in order.

        Args:
            latents: Float32 `[n, d]`, or one `[d]`, of this very model; pin its version where several are served.

        Raises:
            ConfigurationError: The model was exported without a decoder.
            ServerError: As for `encode`.
            ValueError: The latents do not fit the model, or are not finite.
        """
        pictures: Pictures = self.line.carry_out(self.talk.decode(latents))
        return pictures
