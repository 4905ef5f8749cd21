"""The README.md of an export: how other programs load it."""

README = """\
# An exported recommender

`saved_model/` needs stock TensorFlow 2 and nothing else:

```python
import tensorflow as tf

model = tf.saved_model.load("saved_model")
answer = model.signatures["recommend"](
    customer_id=tf.constant(["A1", "somebody new"]),  # [B]; unknown customers get what is popular
    k=tf.constant(10),  # at most this many each
    exclude=tf.constant([[""]]),  # product ids to leave out, "" for none: [1, any width] for all, or [B, any width]
)
for n in range(int(answer["count"][0])):
    product_id, title = (answer[name][0, n].numpy().decode() for name in ("product_id", "title"))
    print(product_id, title, answer["score"][0, n].numpy())
```

`recommend` (also `serving_default`) needs all three inputs. It leaves out what the customer reviewed. Lists with fewer
than k answers are padded with "" and 0; `count` says how many are real. Where the run learned stars, the answer holds
`stars` too, and `model.signatures["rate"](customer_id=..., product_id=...)` predicts those of given pairs.

`recommend_by_rules` takes the same and the rules of `amzrec recommend`, all of them, "" for none, and answers the same:

```python
varied = model.signatures["recommend_by_rules"](
    customer_id=tf.constant(["A1"]),
    k=tf.constant(5),
    exclude=tf.constant([[""]]),
    diversify=tf.constant(0.3),  # 0: the best; 1: each as unlike those before it as can be
    at_most=tf.constant(["category"]),  # names of features: at most …
    at_most_count=tf.constant([2]),  # … so many products with the same value of it, from 1
    only=tf.constant([""]),  # such as ["category=Toys", "category=Books"]: of every name one of these values
    never=tf.constant([""]),  # such as ["brand=Acme"]
)
for title in varied["title"][0, : int(varied["count"][0])]:
    print(title.numpy().decode())
```

The list is chosen from the 10 k best products, but at least 100, by an exact search, in `scann/` too. A feature or a
name that no product has matches nothing: `only` it answers nothing, `never` and `at_most` leave everything.

The same from a shell, with the program that comes with TensorFlow (no blank behind a semicolon):

    saved_model_cli show --dir saved_model --tag_set serve --signature_def recommend
    saved_model_cli run --dir saved_model --tag_set serve --signature_def recommend \\
      --input_exprs 'customer_id=["A1","somebody new"];k=10;exclude=[[""]]'

TensorFlow Serving finds versions as numbered folders, so place the model as version 1:

    mkdir -p models/amzrec && cp -r saved_model models/amzrec/1
    tensorflow_model_server --rest_api_port=8501 --model_name=amzrec --model_base_path="$PWD/models/amzrec"
    curl localhost:8501/v1/models/amzrec:predict -d \\
      '{"signature_name": "recommend", "inputs": {"customer_id": ["A1"], "k": 10, "exclude": [[""]]}}'

`scann/`, where present, is the same with approximate search for large catalogues: `scann/saved_model/` has the same
signatures and needs a server, or a Python process after `import scann`, that carries the ScaNN ops; `scann/index/` is
read by `scann.scann_ops_pybind.load_searcher`, its answers are positions in `rows.npy`, which holds product rows.

`onnx/`, where asked for with --onnx, holds arithmetic on rows of the arrays in `vectors/` of the run, without ids:
`rating.onnx` predicts `stars` [B] from `query` and `product` [B, K + 2], rows of rating_query and rating_candidate;
`fold_in.onnx` makes `retrieval` and `rating`, the query of a customer after N reviews, the oldest first, from `base`
(the row of query_base, 0 for a new customer), `biases` (the last two of its rating_query), `bags`, `residuals`,
`product_bias` (rows of history_bag, history_residual, product_bias), `stars` (NaN for a click) and `weight` (1). What a
memory votes is not in it.
"""
