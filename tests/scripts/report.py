"""What an install computes and says about itself, as JSON; through standard input, so that the folder comes first."""

import json
import warnings

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import numpy as np

    import fastact

    x = np.array([-1.0, 2.0], np.float32)
    for _ in range(2):
        assert fastact.relu(x).tolist() == [0, 2]
        assert fastact.relu(np.array([-1, 2])).tolist() == [0, 2]
print(json.dumps(fastact.config() | {"file": fastact.__file__, "warnings": [str(w.message) for w in caught]}))
