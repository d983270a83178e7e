/* Which vectors belong to a row. */

int gkc_rows_version(void);

int gkc_rows_version(void) { return 1; }
