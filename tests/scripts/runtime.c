/* An OpenMP runtime that counts its regions, for test_c_interface.py: its teams have `team` threads at most, and one
   thread is all of them, one after the other. */

int team = 2, regions, asked;
static int inside, number, threads = 1;

int omp_get_max_threads(void) { return 64; }
int omp_in_parallel(void) { return inside; }
int omp_get_thread_num(void) { return number; }
int omp_get_num_threads(void) { return threads; }

void GOMP_parallel(void (*run)(void *), void *data, unsigned wanted, unsigned flags)
{
    (void)flags;
    regions++;
    asked = (int)wanted;
    inside = 1;
    threads = asked < team ? asked : team;
    for (number = threads - 1; number >= 0; number--) run(data);
    number = inside = 0;
    threads = 1;
}
