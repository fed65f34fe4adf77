"""One loaded SavedModel version."""

import logging
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import grpc
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from ae_search.contract import IMAGE_BYTES, SIGNATURE_DESCRIBE, SIGNATURE_FLOAT
from ae_search.errors import ExportError
from ae_search.model_server.decoding import ROOM, runs
from ae_search.model_server.program import check_program
from ae_search.model_server.refusal import RequestRefused, refused_by_tensorflow, short_text
from ae_search.model_server.tensors import decode_tensor, dtype_of, shape_of
from ae_search.version_folders import SAVED_MODEL

log = logging.getLogger(__name__)

WARMUP = "assets.extra/tf_serving_warmup_requests"
# TensorFlow Serving's own limit.
MAX_WARMUP_RECORDS = 1000
# Each row of four bytes is answered by a whole model card.
MAX_DESCRIBED_ROWS = 4096

Inputs = dict[str, npt.NDArray[Any]]
Outputs = dict[str, npt.NDArray[Any]]


class Servable:
    """A SavedModel in memory whose signatures can be run; safe to use from several threads.

    Attributes:
        version: Version number, the name of its folder.
        signature_defs: `SignatureDef` by signature name, without the initialisation op.
    """

    def __init__(self, saved_model: Any, signature_defs: Mapping[str, Any], version: int) -> None:
        # The functions hold their variables weakly.
        self._saved_model = saved_model
        self._functions: dict[str, Any] = dict(saved_model.signatures)
        self.signature_defs = {name: value for name, value in signature_defs.items() if name in self._functions}
        self._defaults: dict[str, Inputs] = {
            name: {key: tf.make_ndarray(proto) for key, proto in value.defaults.items()}
            for name, value in self.signature_defs.items()
        }
        self._specs = {name: function.structured_input_signature[1] for name, function in self._functions.items()}
        self._output_names = {name: sorted(function.structured_outputs) for name, function in self._functions.items()}
        self._with_rows = {name for name, specs in self._specs.items() if specs and all(map(_has_rows, specs.values()))}
        self._cuttable = {
            name
            for name in self._with_rows
            if IMAGE_BYTES in self._specs[name]
            and all(map(_has_rows, self._functions[name].structured_outputs.values()))
        }
        self.version = version

    @classmethod
    def load(cls, folder: Path, version: int, *, trust: bool = False) -> Self:
        """Load a version folder and replay its warm-up requests.

        Args:
            folder: Holds `saved_model.pb`.
            version: Its number.
            trust: Load it whatever its program may do, see `check_program`.

        Raises:
            ExportError: It may do more than compute, it cannot be loaded, or a warm-up request fails.
        """
        if not trust:
            check_program(folder)
        try:
            servable = cls(tf.saved_model.load(str(folder)), _read_signature_defs(folder), version)
            warmed = servable._warm_up(folder / WARMUP)
        except Exception as error:
            cause = short_text(str(error))
            raise ExportError(f"{folder} cannot be loaded as a SavedModel: {cause}") from error
        log.info("loaded %s, warmed up with %d requests", folder, warmed)
        return servable

    def run(self, signature: str, inputs: Mapping[str, Any]) -> Outputs:
        """Run one signature.

        Args:
            signature: Signature name; empty means `serving_default`.
            inputs: Tensor or array by input name.

        Returns:
            Array by output name; strings as objects.

        Raises:
            RequestRefused: There is no such signature, an input does not fit it, or the model refuses a value.
        """
        arrays = {name: _as_array(value) for name, value in inputs.items()}
        given = {name: (tf.dtypes.as_dtype(array.dtype), array.shape) for name, array in arrays.items()}
        self._check(signature, given)
        return self.execute(signature, self._default_inputs(signature) | arrays)

    def prepare(self, signature: str, protos: Mapping[str, Any]) -> Inputs:
        """Return the inputs of a request, checked; none is decoded before all fit the signature.

        Args:
            signature: Signature name; empty means `serving_default`.
            protos: `TensorProto` by input name.

        Returns:
            Array by input name, the signature's defaults for those that were not sent.

        Raises:
            RequestRefused: As `run` does, or a TensorProto is malformed or too large.
        """
        self._check(signature, {name: (dtype_of(name, proto), shape_of(name, proto)) for name, proto in protos.items()})
        decoded = {name: decode_tensor(name, proto) for name, proto in protos.items()}
        return self._default_inputs(signature) | decoded

    def execute(self, signature: str, inputs: Inputs) -> Outputs:
        """Run one signature on inputs that `prepare` returned, or several of them joined.

        Image files wait for room to be decoded in, and are run in several goes where they need much of it.

        Raises:
            RequestRefused: The model refuses a value.
        """
        files = inputs.get(IMAGE_BYTES)
        if files is None or files.dtype != object:
            return self._execute(signature, inputs)
        cuttable = (signature or SIGNATURE_FLOAT) in self._cuttable
        outputs = []
        for start, end, n_bytes in runs(files.ravel(), ROOM.most // 2 if cuttable else sys.maxsize):
            part = {name: array[start:end] for name, array in inputs.items()} if cuttable else inputs
            with ROOM.taken(n_bytes):
                outputs.append(self._execute(signature, part))
        if len(outputs) == 1:
            return outputs[0]
        return {name: np.concatenate([part[name] for part in outputs]) for name in outputs[0]}

    def _execute(self, signature: str, inputs: Inputs) -> Outputs:
        try:
            tensors = {name: tf.convert_to_tensor(array) for name, array in inputs.items()}
            return {name: np.asarray(value) for name, value in self._function(signature)(**tensors).items()}
        except (tf.errors.OpError, UnicodeDecodeError) as error:
            raise refused_by_tensorflow(error) from error

    def has_rows(self, signature: str) -> bool:
        """Return whether the requests of a signature can be joined: each of its inputs has any number of rows.

        Raises:
            RequestRefused: There is no such signature.
        """
        self._function(signature)
        return (signature or SIGNATURE_FLOAT) in self._with_rows

    def output_names(self, signature: str, asked: Iterable[str] = ()) -> list[str]:
        """Return which outputs to answer with.

        Args:
            signature: Signature name; empty means `serving_default`.
            asked: The request's `output_filter`; empty means all.

        Raises:
            RequestRefused: There is no such signature or output, or one is asked for twice.
        """
        self._function(signature)
        known, asked = self._output_names[signature or SIGNATURE_FLOAT], list(asked)
        for name in asked:
            if name not in known:
                raise _invalid(f"output tensor alias not found in signature: {name} {_expected('Outputs', known)}")
        if len(set(asked)) < len(asked):
            raise _invalid("duplicate output tensor alias in the output_filter")
        return asked or known

    def _default_inputs(self, signature: str) -> Inputs:
        return self._defaults.get(signature or SIGNATURE_FLOAT, {})

    def _function(self, signature: str) -> Any:
        try:
            return self._functions[signature or SIGNATURE_FLOAT]
        except KeyError:
            text = f'Serving signature key "{signature or SIGNATURE_FLOAT}" not found.'
            raise RequestRefused(grpc.StatusCode.FAILED_PRECONDITION, text) from None

    def _check(self, signature: str, given: Mapping[str, tuple[Any, tuple[int, ...]]]) -> None:
        """Refuse inputs that do not fit: a wrong shape that reaches a kernel can abort the process."""
        self._function(signature)
        specs = self._specs[signature or SIGNATURE_FLOAT]
        for name in given:
            if name not in specs:
                raise _invalid(f"input tensor alias not found in signature: {name}. {_expected('Inputs', specs)}")
        for name, spec in specs.items():
            if name not in given:
                if name in self._default_inputs(signature):
                    continue
                raise _invalid(f'input "{name}" is missing. {_expected("Inputs", specs)}')
            dtype, shape = given[name]
            if dtype != spec.dtype:
                raise _invalid(f'input "{name}" must be {spec.dtype.name}. Received: {dtype.name}.')
            if not spec.shape.is_compatible_with(shape):
                raise _invalid(f'input "{name}" must have shape {spec.shape}. Received: {shape}.')
            if signature == SIGNATURE_DESCRIBE and shape and shape[0] > MAX_DESCRIBED_ROWS:
                raise _invalid(f'input "{name}" has {shape[0]} rows; a model is described {MAX_DESCRIBED_ROWS} times.')

    def _warm_up(self, records: Path) -> int:
        """Replay the recorded requests; a broken export that loads nevertheless fails here."""
        if not records.is_file():
            return 0
        count = 0
        for count, record in enumerate(tf.data.TFRecordDataset(str(records)).as_numpy_iterator(), start=1):
            if count > MAX_WARMUP_RECORDS:
                raise ValueError(f"{records.name} has more than {MAX_WARMUP_RECORDS} records.")
            entry = prediction_log_pb2.PredictionLog.FromString(record)
            if entry.HasField("predict_log"):
                request = entry.predict_log.request
                signature = request.model_spec.signature_name
                self.execute(signature, self.prepare(signature, request.inputs))
        return count


def _read_signature_defs(folder: Path) -> dict[str, Any]:
    saved_model = saved_model_pb2.SavedModel.FromString((folder / SAVED_MODEL).read_bytes())
    for graph in saved_model.meta_graphs:
        if "serve" in graph.meta_info_def.tags:
            return dict(graph.signature_def)
    raise ValueError("it has no graph tagged 'serve'.")


def _has_rows(spec: Any) -> bool:
    return bool(spec.shape.rank) and spec.shape[0] is None


def _as_array(value: Any) -> npt.NDArray[Any]:
    array = np.asarray(value)
    return array.astype(object) if array.dtype.kind in "SU" else array


def _expected(what: str, names: Iterable[str]) -> str:
    return f"{what} expected to be in the set {{{','.join(sorted(names))}}}."


def _invalid(text: str) -> RequestRefused:
    return RequestRefused(grpc.StatusCode.INVALID_ARGUMENT, text)
