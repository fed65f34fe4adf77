"""Every kind of encoder over the same exported models; the Keras encoders themselves are the oracle."""

from contextlib import ExitStack

import keras
import numpy as np
import pytest
import tensorflow as tf
from both_clients import KINDS
from encoder_models import DIM, GREY_SHAPE, SHAPE, Local, Sick

from ae_search.export import export_encoder
from ae_search.model import build_decoder, build_encoder
from ae_search.model_server import ModelServer
from ae_search.model_server.policy import VersionPolicy


@pytest.fixture(scope="session")
def grey_model():
    keras.utils.set_random_seed(5)
    return build_encoder(GREY_SHAPE, latent_dim=DIM)


@pytest.fixture(scope="session")
def models(tiny_encoder):
    """The Keras encoder of each version of "tiny"."""
    keras.utils.set_random_seed(2)
    return {1: tiny_encoder, 2: build_encoder(SHAPE, latent_dim=DIM)}


@pytest.fixture(scope="session")
def decoder():
    """The Keras decoder of version 2 of "tiny"; version 1 has none."""
    keras.utils.set_random_seed(3)
    return build_decoder(SHAPE, latent_dim=DIM)


@pytest.fixture(scope="session")
def bases(models, decoder, grey_model, tmp_path_factory):
    root = tmp_path_factory.mktemp("contract")
    for version, model in models.items():
        export_encoder(model, root / "tiny", decoder=decoder if version == 2 else None)
    export_encoder(grey_model, root / "grey")
    sick = Sick()
    signatures = {"encode_uint8": sick.encode_uint8, "serving_default": sick.encode_uint8, "describe": sick.describe}
    tf.saved_model.save(sick, str(root / "sick" / "1"), signatures)
    return {name: root / name for name in ("tiny", "grey", "sick")}


@pytest.fixture(scope="session")
def addresses(bases):
    with ExitStack() as stack:
        every = VersionPolicy(latest=None)
        servers = {name: ModelServer(base, version_policy=every) for name, base in bases.items()}
        yield {name: stack.enter_context(server).address for name, server in servers.items()}


@pytest.fixture(scope="session")
def loaded(bases):
    """The local encoder of each model: loading takes longer than all else here."""
    return {name: Local(base) for name, base in bases.items()}


@pytest.fixture(params=[*KINDS, "local"])
def make(request, addresses, loaded):
    """Make an encoder of a model; keep nothing."""
    with ExitStack() as made:

        def encoder(name="tiny"):
            if request.param == "local":
                return loaded[name]
            one = KINDS[request.param](addresses[name], name, timeout_s=60)
            made.callback(one.end)
            return one

        yield encoder


@pytest.fixture
def encoder(make):
    return make()


@pytest.fixture
def oracle(models):
    """Latents of pixels by Keras itself."""

    def latents(pixels, version=2):
        return models[version](np.asarray(pixels, np.float32) / 255.0, training=False).numpy()

    return latents
