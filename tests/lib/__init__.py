# SPDX-License-Identifier: Apache-2.0
"""What the tests share: namespaces, processes, waiting, nstack itself, stock programs."""
