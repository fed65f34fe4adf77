"""TFRecord files of Examples, as TensorFlow writes them."""


def example(**features):
    """Return a serialized Example; names are written with __ for a slash."""
    import tensorflow as tf

    def feature(value):
        values = value if isinstance(value, list) else [value]
        if all(isinstance(one, int) for one in values):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        if all(isinstance(one, float) for one in values):
            return tf.train.Feature(float_list=tf.train.FloatList(value=values))
        texts = [one.encode() if isinstance(one, str) else one for one in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=texts))

    named = {name.replace("__", "/"): feature(value) for name, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=named)).SerializeToString()


def write_records(path, records, *, gzipped=False):
    """Write records to a file; return its path."""
    import tensorflow as tf

    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), "GZIP" if gzipped else None) as writer:
        for record in records:
            writer.write(record)
    return path
