import pytest
from clinics import Clinic


@pytest.fixture
def clinic(tmp_path):
    made = Clinic(tmp_path)
    yield made
    made.close()
