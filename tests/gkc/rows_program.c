/* Prints what rows.c answers to fixed questions: the same on every processor. */
#include <stdio.h>

int gkc_rows_version(void);

int main(void) {
  printf("version %d\n", gkc_rows_version());
  return 0;
}
