// A quiet NaN. (NVRTC knows no NAN.)
#define NOT_A_NUMBER as_type<float>(0x7FC00000u)
