"""What people look at after a run: one HTML file with its settings, curves, errors and images.

``run_record`` and ``recorder`` write files during the run, ``figures`` has a module for each part of the page, ``page``
puts them together. Everything on the page comes from files of the run's folder, so it can be written again later.
"""

from centernet_d2.report.page import write_report

__all__ = ["write_report"]
