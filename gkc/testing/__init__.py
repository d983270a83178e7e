"""What a store must do, as tests to subclass: for whoever writes a backend. Needs pytest.

`gkc.testing.contract.StoreContract` are the tests; register the modules with
``pytest.register_assert_rewrite`` so that their asserts explain themselves.
"""
