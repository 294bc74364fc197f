from giblet_train.portable.api import Model as Model
from giblet_train.portable.api import Prediction as Prediction
from giblet_train.portable.api import Score as Score
from giblet_train.portable.api import load as load
from giblet_train.portable.film_features import Film as Film
from giblet_train.portable.run_records import RunRecords as RunRecords
from giblet_train.portable.run_records import read_run as read_run

__version__: str
