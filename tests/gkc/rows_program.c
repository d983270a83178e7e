/* Asks what gkc/rows_trial.py asks, as tests/gkc/test_rows_trial.py wrote it into the file that is
   named: as the processor converts halves, then by plain loops. Prints the CRC-32 of the answers. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int gkc_choose(int plain);
int gkc_lay_rows(const void *generation, const void *question, const uint8_t *records, int64_t from,
                 int64_t to);
int64_t gkc_distinct(const int64_t *values, const int64_t *seconds, const uint8_t *has, int64_t n,
                     uint64_t seed, int64_t *slots, uint64_t mask, int64_t *first, int64_t *index);

int gkc_keys(const void *asked, int64_t *keys);
int gkc_find_strings(const void *table, const void *stored, const void *asked, int64_t *rows);
int gkc_find_sorted(const void *stored, const void *asked, int64_t *places);
int64_t gkc_take_strings(const uint8_t *text, int64_t at, int64_t end, uint8_t *bytes,
                         int64_t *offsets);
int64_t gkc_check_records(uint64_t sum, const uint8_t *ids, const void *names,
                          const uint8_t *records, const int64_t *offsets, int64_t n, int64_t bytes);

enum { LAY_ROWS = 0, DISTINCT = 1, KEYS = 2, FIND_STRINGS = 3, TAKE_STRINGS = 5, CHECK_RECORDS = 6,
       WORDS_OF_A_CALL = 11, MOST_WORDS = 1 << 20 };

static int64_t words[MOST_WORDS];

static uint32_t crc32(uint32_t crc, const uint8_t *bytes, int64_t n) {
  crc = ~crc;
  for (int64_t k = 0; k < n; k++) {
    crc ^= bytes[k];
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
  }
  return ~crc;
}

/* The file: how many addresses there are, calls, and answers; all of them; then the memory. */
static void ask(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file || fread(words, 8, MOST_WORDS, file) == 0 || fclose(file)) exit(1);
  const int64_t *addresses = words + 3, *calls = addresses + words[0];
  const int64_t *answers = calls + WORDS_OF_A_CALL * words[1];
  int64_t *memory = words + 3 + words[0] + WORDS_OF_A_CALL * words[1] + 2 * words[2];
  uint8_t *bytes = (uint8_t *)memory;
  uint32_t crc = 0;
  for (int64_t k = 0; k < words[0]; k++) memory[addresses[k] / 8] += (int64_t)(uintptr_t)memory;
  for (int64_t k = 0; k < words[1]; k++) {
    const int64_t *call = calls + WORDS_OF_A_CALL * k, *a = call + 2;
    int64_t outcome = call[0] == LAY_ROWS
      ? gkc_lay_rows(bytes + a[0], bytes + a[1], bytes + a[2], a[3], a[4])
      : call[0] == KEYS ? gkc_keys(bytes + a[0], memory + a[1] / 8)
      : call[0] == FIND_STRINGS
      ? gkc_find_strings(bytes + a[0], bytes + a[1], bytes + a[2], memory + a[3] / 8)
      : call[0] == TAKE_STRINGS
      ? gkc_take_strings(bytes + a[0], a[1], a[2], bytes + a[3], memory + a[4] / 8)
      : call[0] == CHECK_RECORDS
      ? gkc_check_records((uint64_t)a[0], bytes + a[1], a[2] ? bytes + a[2] : 0, bytes + a[3],
                          a[4] ? memory + a[4] / 8 : 0, a[5], a[6])
      : call[0] != DISTINCT ? gkc_find_sorted(bytes + a[0], bytes + a[1], memory + a[2] / 8)
      : gkc_distinct(memory + a[0] / 8, a[1] ? memory + a[1] / 8 : 0, a[2] ? bytes + a[2] : 0, a[3],
                     (uint64_t)a[4], memory + a[5] / 8, (uint64_t)a[6], memory + a[7] / 8,
                     memory + a[8] / 8);
    if (outcome != call[1]) exit(2);
  }
  for (int64_t k = 0; k < words[2]; k++) crc = crc32(crc, bytes + answers[2 * k], answers[2 * k + 1]);
  printf("%u\n", (unsigned)crc);
}

int main(int argc, char **argv) {
  for (int plain = 0; plain < 2 && argc > 1; plain++) {
    gkc_choose(plain);
    ask(argv[1]);
  }
  return 0;
}
