/* Prints what rows.c answers to fixed questions: the same on every processor. */
#include <stdio.h>

int gkc_choose(int plain);

int main(void) {
  printf("%d\n", gkc_choose(1));
  return 0;
}
